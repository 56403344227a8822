package pool

import (
	"errors"
	"time"
)

// shelf is what the pool has of one key. The pool's mutex guards it.
type shelf[I Instance] struct {
	number   int // wanted, or Auto
	idle     []*idle[I]
	starting int
	retired  bool // forgotten; what is under way ends with it

	calls []time.Time   // the latest, oldest first
	used  time.Time     // when it was asked for last
	took  time.Duration // a start, about

	failures int       // in a row
	failed   error     // the latest
	retry    time.Time // not before
}

// idle is an instance on the shelf.
type idle[I Instance] struct {
	instance I
	since    time.Time
	gone     chan struct{} // closed when it leaves the shelf
}

// The wait after a failed start doubles from the first to the longest.
const (
	firstRetry   = time.Second
	longestRetry = 2 * time.Minute
	// infancy is how long an instance must live for its death to be no failure of
	// its start.
	infancy = 10 * time.Second
)

func (p *Pool[K, I]) shelf(key K) *shelf[I] {
	s := p.shelves[key]
	if s == nil {
		s = &shelf[I]{used: time.Now()}
		p.shelves[key] = s
	}
	return s
}

// asked remembers a call.
func (s *shelf[I]) asked(now time.Time) {
	if len(s.calls) == mostCalls {
		s.calls = append(s.calls[:0], s.calls[1:]...)
	}
	s.calls, s.used = append(s.calls, now), now
}

func (p *Pool[K, I]) wanted(s *shelf[I]) int {
	if s.retired {
		return 0
	}
	if s.number == Auto {
		return min(Wanted(s.calls, s.took), p.most)
	}
	return min(s.number, p.most)
}

// spare is how many more instances there are, or will be, than are wanted.
func (p *Pool[K, I]) spare(s *shelf[I]) int { return len(s.idle) + s.starting - p.wanted(s) }

// take takes the oldest idle instance off the shelf for a caller. One that has
// died is left to its watcher.
func (p *Pool[K, I]) take(s *shelf[I]) (i I, ok bool) {
	for n, one := range s.idle {
		if !dead(one.instance) {
			p.unshelve(s, n)
			p.held--
			s.failures = 0
			return one.instance, true
		}
	}
	return i, false
}

func dead(i Instance) bool {
	select {
	case <-i.Done():
		return true
	default:
		return false
	}
}

func (p *Pool[K, I]) unshelve(s *shelf[I], n int) *idle[I] {
	one := s.idle[n]
	s.idle = append(s.idle[:n:n], s.idle[n+1:]...)
	close(one.gone)
	return one
}

// put shelves an instance and watches over it.
func (p *Pool[K, I]) put(s *shelf[I], i I) {
	one := &idle[I]{instance: i, since: time.Now(), gone: make(chan struct{})}
	s.idle = append(s.idle, one)
	p.group.Go(func() {
		select {
		case <-one.gone:
			return
		case <-i.Done():
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for n := range s.idle {
			if s.idle[n] != one {
				continue
			}
			if time.Since(one.since) < infancy {
				p.fail(s, errors.New("it died as soon as it was started"))
			}
			p.giveUp(s, n)
			p.fill()
			return
		}
	})
}

// giveUp closes an idle instance.
func (p *Pool[K, I]) giveUp(s *shelf[I], n int) { p.dispose(p.unshelve(s, n).instance) }

// dispose closes an instance in the background. Its room is free when it is gone.
func (p *Pool[K, I]) dispose(i I) {
	p.closing++
	p.group.Go(func() {
		i.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closing--
		p.held--
		p.fill()
	})
}

// fail leaves the key alone for a while. Many failures at once are one.
func (p *Pool[K, I]) fail(s *shelf[I], err error) {
	s.failed = err
	now := time.Now()
	if now.Before(s.retry) {
		return
	}
	s.retry = now.Add(min(firstRetry<<min(s.failures, 10), longestRetry))
	s.failures++
	p.wake()
}

// An instance that was handed out is left alone for a while before the next one
// is started in its place: starts are heavy work for the machine, and most of what
// is handed out has done its own by then. A shelf that is more than half empty
// cannot wait that long.
const (
	headStartTime  = 50 * time.Millisecond
	shortHeadStart = 10 * time.Millisecond
)

// headStart puts off refills for a moment, but not again and again. s is the
// shelf that an instance was taken from.
func (p *Pool[K, I]) headStart(s *shelf[I], now time.Time) {
	if !now.After(p.quiet) {
		return
	}
	p.quiet = now.Add(headStartTime)
	if 2*len(s.idle) < p.wanted(s) {
		p.quiet = now.Add(shortHeadStart)
	}
	p.wake()
}

// wake lets Run find out anew when it has to look again.
func (p *Pool[K, I]) wake() {
	select {
	case p.nudge <- struct{}{}:
	default: // it will
	}
}

// trim closes what is more than wanted, the oldest first.
func (p *Pool[K, I]) trim(s *shelf[I]) {
	for len(s.idle) > 0 && p.spare(s) > 0 {
		p.giveUp(s, 0)
	}
}

func (p *Pool[K, I]) retire(key K, s *shelf[I]) {
	s.retired = true
	for len(s.idle) > 0 {
		p.giveUp(s, 0)
	}
	delete(p.shelves, key)
}

// upkeepTime is the longest that Run waits between two looks at all keys.
const upkeepTime = 10 * time.Second

// upkeep does what time brings, and returns when it is to be called next.
func (p *Pool[K, I]) upkeep(now time.Time) (next time.Duration) {
	next = min(upkeepTime, p.cfg.Expire/4)
	for key, s := range p.shelves {
		switch {
		case s.number <= 0 && now.Sub(s.used) >= p.cfg.Expire && s.starting == 0:
			p.retire(key, s)
		case s.retry.After(now):
			next = min(next, s.retry.Sub(now))
		default:
			p.trim(s)
		}
	}
	p.fill()
	if p.quiet.After(now) {
		next = min(next, p.quiet.Sub(now))
	}
	return next
}

// start starts an instance in the background, for whoever is first in the line
// when it has come.
func (p *Pool[K, I]) start(key K, s *shelf[I], refill bool) {
	s.starting++
	p.held++
	if refill {
		p.refills++
	}
	p.group.Go(func() {
		began := time.Now()
		i, err := p.cfg.Start(p.work, key)
		if err == nil && dead(i) {
			i.Close()
			err = errors.New("it died as soon as it was started")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		s.starting--
		if refill {
			p.refills--
		}
		if err != nil {
			p.held--
			if p.work.Err() == nil {
				p.cfg.Log.Warn("instance not started", "key", key, "err", err)
			}
			p.fail(s, err)
			p.disappoint(key, s)
		} else {
			s.timed(time.Since(began))
			p.arrived(key, s, i)
		}
		p.fill()
	})
}

// timed keeps a moving mean: the latest counts a quarter.
func (s *shelf[I]) timed(took time.Duration) {
	if s.took == 0 {
		s.took = took
		return
	}
	s.took += (took - s.took) / 4
}

// arrived gives an instance that has started to the oldest caller of its key.
func (p *Pool[K, I]) arrived(key K, s *shelf[I], i I) {
	for n, w := range p.line {
		if w.key == key {
			p.leave(n, answer[I]{instance: i})
			p.held--
			p.handouts++
			p.waits++
			s.failures = 0
			return
		}
	}
	if !p.open || s.retired {
		p.dispose(i)
		return
	}
	p.put(s, i)
}

// disappoint tells callers for whom nothing is under way any more.
func (p *Pool[K, I]) disappoint(key K, s *shelf[I]) {
	waiting := 0
	for _, w := range p.line {
		if w.key == key {
			waiting++
		}
	}
	for n := 0; n < len(p.line) && waiting > s.starting; {
		if p.line[n].key != key {
			n++
			continue
		}
		p.leave(n, answer[I]{err: s.failed})
		waiting--
	}
}

func (p *Pool[K, I]) leave(n int, a answer[I]) {
	p.line[n].answer <- a
	p.line = append(p.line[:n:n], p.line[n+1:]...)
}
