package scheduler

import (
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// The bounds of what is remembered of ended attempts.
const (
	maxSamples  = 64             // of one function, device and size: the newest
	minSamples  = 3              // fewer say nothing
	sampleLife  = 24 * time.Hour // so that a device that was given up is tried again some day
	maxRecorded = 512            // functions; the one that was not needed for longest goes first
)

// size is a class of tasks by the bytes of their inputs together: those of one
// class are taken to last about as long as each other. Classes above the first
// are powers of four.
type size uint8

const (
	anySize     size = iota // not told apart
	noInput                 // the event is all that it gets
	unknownSize             // of some input nobody knows the size
	smallest                // up to 64KiB; each further class up to four times as much
	largest     size = smallest + 11
	sizes            = int(largest) + 1
)

// sizeOf is the class of a task with these inputs.
func sizeOf(inputs []functions.Input) size {
	if len(inputs) == 0 {
		return noInput
	}
	var sum int64
	for i := range inputs {
		if inputs[i].Size < 0 {
			return unknownSize
		}
		sum += inputs[i].Size
	}
	s := smallest
	for most := int64(64 << 10); sum > most && s < largest; most *= 4 {
		s++
	}
	return s
}

// basis says which tasks an estimate is from.
type basis uint8

const (
	itsSize   basis = iota
	aboutSize       // the classes next to its own too, which alone has too few
	allSizes
)

// estimate is how long an attempt is expected to take from its start to its end,
// by the median of earlier ones. The zero estimate knows nothing.
type estimate struct {
	Took  time.Duration
	Tasks int // that it is from
	Basis basis
}

func (e estimate) known() bool { return e.Tasks >= minSamples }

// sample is one attempt that succeeded.
type sample struct {
	took  time.Duration
	ended int64 // Unix seconds
}

// ring is the newest samples.
type ring struct {
	all  []sample
	next int // the oldest once it is full
}

func (r *ring) put(s sample) {
	if len(r.all) < maxSamples {
		r.all = append(r.all, s)
		return
	}
	r.all[r.next] = s
	r.next = (r.next + 1) % maxSamples
}

// putOlder adds a sample from before all others, where there is room and it is
// not there already.
func (r *ring) putOlder(s sample) {
	if len(r.all) < maxSamples && !slices.Contains(r.all, s) {
		r.all = slices.Insert(r.all, 0, s)
	}
}

// record is what is remembered of one version of a function.
type record struct {
	used   uint64 // stamp of the last need
	rings  [2][sizes]*ring
	cached [2][sizes]remembered
}

// remembered is an estimate that holds until a sample is added or grows too old.
type remembered struct {
	estimate
	valid bool
	until int64 // Unix seconds
}

// estimates is what is remembered of every function, in bounded memory.
type estimates struct {
	records map[versionKey]*record
	stamp   uint64
	scratch []time.Duration
}

func rowOf(d functions.Device) int {
	if d == functions.GPU {
		return 1
	}
	return 0
}

// learn adds an attempt that succeeded. Those of an earlier time than what the
// term itself saw are older.
func (es *estimates) learn(v versionKey, d functions.Device, sz size, s sample, older bool) {
	r := es.need(v)
	row := rowOf(d)
	for _, class := range [...]size{sz, anySize} {
		to := r.rings[row][class]
		if to == nil {
			to = &ring{}
			r.rings[row][class] = to
		}
		if older {
			to.putOlder(s)
		} else {
			to.put(s)
		}
	}
	r.cached[row] = [sizes]remembered{}
}

// need returns the record of a version, making it when it is new.
func (es *estimates) need(v versionKey) *record {
	es.stamp++
	r := es.records[v]
	if r == nil {
		if es.records == nil {
			es.records = map[versionKey]*record{}
		}
		if len(es.records) >= maxRecorded {
			es.forget()
		}
		r = &record{}
		es.records[v] = r
	}
	r.used = es.stamp
	return r
}

// forget drops the record that was not needed for longest.
func (es *estimates) forget() {
	var last versionKey
	oldest := es.stamp
	for v, r := range es.records {
		if r.used < oldest {
			last, oldest = v, r.used
		}
	}
	delete(es.records, last)
}

// of returns the estimate for a task: from those of its size, else with the
// sizes next to it, else from all.
func (es *estimates) of(v versionKey, d functions.Device, sz size, now time.Time) estimate {
	r := es.records[v]
	if r == nil {
		return estimate{}
	}
	es.stamp++
	r.used = es.stamp
	at := now.Unix()
	c := &r.cached[rowOf(d)][sz]
	if !c.valid || at >= c.until {
		*c = es.compute(&r.rings[rowOf(d)], sz, at)
	}
	return c.estimate
}

func (es *estimates) compute(rings *[sizes]*ring, sz size, now int64) remembered {
	out := remembered{valid: true, until: now + int64(sampleLife/time.Second)}
	collect := func(classes ...size) bool {
		es.scratch = es.scratch[:0]
		for _, class := range classes {
			if rings[class] == nil {
				continue
			}
			for _, s := range rings[class].all {
				dies := s.ended + int64(sampleLife/time.Second)
				if dies > now {
					es.scratch = append(es.scratch, s.took)
					out.until = min(out.until, dies)
				}
			}
		}
		return len(es.scratch) >= minSamples
	}
	switch {
	case collect(sz):
		out.Basis = itsSize
	case sz >= smallest && collect(near(sz)...):
		out.Basis = aboutSize
	case sz != anySize && collect(anySize):
		out.Basis = allSizes
	default:
		return out
	}
	out.Took, out.Tasks = median(es.scratch), len(es.scratch)
	return out
}

// near is a class by bytes with those next to it.
func near(sz size) []size {
	all := []size{sz}
	if sz > smallest {
		all = append(all, sz-1)
	}
	if sz < largest {
		all = append(all, sz+1)
	}
	return all
}

// median sorts what it is given.
func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	m := len(all) / 2
	if len(all)%2 == 1 {
		return all[m]
	}
	return all[m-1] + (all[m]-all[m-1])/2
}
