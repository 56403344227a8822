package scheduler

import (
	"fmt"
	"math"
	"time"
)

// soon is the least that is ever expected of anything that has not happened yet.
const soon = 100 * time.Millisecond

// remaining is how much longer an attempt is expected to run. One that has run
// past what was expected is given as long again as it is over, so that nobody
// waits for ever for one that hangs.
func remaining(expected, elapsed time.Duration) time.Duration {
	return max(expected-elapsed, elapsed-expected, expected/10, soon)
}

// outlook is what a task that may use a GPU can expect of each device. What is
// not known is left out: no number without data.
type outlook struct {
	GPU, CPU estimate        // of the task's own attempt, once it is placed
	Places   []time.Duration // from now until GPUs that suit are free, the first one first
	Each     time.Duration   // that a task in front of it holds one; 0 = not known

	First  int     // tasks of other functions that go before the whole function
	Rivals int     // tasks of others that take turns with it
	Share  float64 // of those, for each of its own

	CPUFree bool          // a node has room for it without a GPU now
	CPUWait time.Duration // until one has; 0 = not known
}

// nextGPU is when a GPU that suits is free, whoever gets it.
func (o outlook) nextGPU() (time.Duration, bool) {
	if len(o.Places) == 0 {
		return 0, false
	}
	return o.Places[0], true
}

// onGPU is when the task is done if it waits for a GPU, with so many of its
// function in front of it.
func (o outlook) onGPU(ahead int) (time.Duration, bool) {
	if !o.tells(ahead) {
		return 0, false
	}
	return o.start(o.before(ahead)) + o.GPU.Took, true
}

// tells reports whether onGPU knows.
func (o outlook) tells(ahead int) bool {
	return o.GPU.known() && len(o.Places) > 0 && (o.Each > 0 || o.before(ahead) == 0)
}

// onCPU is when the task is done if it goes to the CPU.
func (o outlook) onCPU() (time.Duration, bool) {
	if !o.CPU.known() || !o.CPUFree && o.CPUWait == 0 {
		return 0, false
	}
	if o.CPUFree {
		return o.CPU.Took, true
	}
	return o.CPUWait + o.CPU.Took, true
}

// before is how many tasks of every function get a GPU first.
func (o outlook) before(ahead int) int {
	return ahead + o.First + min(o.Rivals, int(float64(ahead+1)*o.Share))
}

// start is when a GPU is there for the task that n others go before, to a
// millisecond. They take the places as these become free, and hold them equally long.
func (o outlook) start(n int) time.Duration {
	if n == 0 {
		return o.Places[0]
	}
	if int64(n) > int64(math.MaxInt64/4)/int64(o.Each) {
		return math.MaxInt64 / 2
	}
	first, last, m := o.Places[0], o.Places[len(o.Places)-1], len(o.Places)
	lo := first + max(time.Duration((n+1)/m-1), 0)*o.Each // were all free with the first
	hi := last + time.Duration((n+m)/m)*o.Each            // were all free with the last
	for hi-lo > time.Millisecond {
		mid := lo + (hi-lo)/2
		if o.starts(mid) > n {
			hi = mid
		} else {
			lo = mid
		}
	}
	begin := first
	for _, p := range o.Places { // the last begin by then
		if p <= hi {
			begin = max(begin, p+(hi-p)/o.Each*o.Each)
		}
	}
	return begin
}

// inTime reports whether onGPU is no later than that; it costs less.
func (o outlook) inTime(ahead int, by time.Duration) bool {
	return o.starts(by-o.GPU.Took) > o.before(ahead)
}

// starts counts the tasks that can begin on a GPU until some moment.
func (o outlook) starts(until time.Duration) (n int) {
	for _, p := range o.Places {
		if p > until {
			break
		}
		n++
		if o.Each > 0 {
			n += int((until - p) / o.Each)
		}
	}
	return n
}

// worthIt is how many tasks of the function are done sooner if they wait for a
// GPU than on the CPU; all of them when that is not known.
func (o outlook) worthIt() int {
	cpu, ok := o.onCPU()
	if !ok || !o.tells(1) {
		return math.MaxInt
	}
	begin := o.starts(cpu - o.GPU.Took)
	lo, hi := 0, begin
	for lo < hi { // the first that does not begin in time
		mid := lo + (hi-lo)/2
		if o.before(mid) < begin {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// source says what numbers are from, where that is not attempts of the task's
// own size.
func source(all ...estimate) string {
	worst := estimate{}
	for _, e := range all {
		if e.Basis > worst.Basis || e.Basis == worst.Basis && worst.Tasks > 0 && e.Tasks < worst.Tasks {
			worst = e
		}
	}
	switch worst.Basis {
	case aboutSize:
		return fmt.Sprintf(" (from %d tasks of about its size)", worst.Tasks)
	case allSizes:
		return fmt.Sprintf(" (from %d tasks of all sizes)", worst.Tasks)
	}
	return ""
}

// about writes a duration as roughly as it is known.
func about(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2g s", max(d, soon).Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}
