package pool

import "time"

// fill starts what is owed to callers, and then what is missing on the shelves.
// Everything that changes the pool calls it, with the mutex held.
func (p *Pool[K, I]) fill() {
	if !p.open {
		return
	}
	if p.serve() {
		p.stock()
	}
}

// serve starts an instance for each caller for whom none is under way, the oldest
// first. It reports false when some of them wait for room, which is made for them.
func (p *Pool[K, I]) serve() bool {
	owed := make(map[*shelf[I]]int)
	starved := 0
	for _, w := range p.line {
		s := p.shelf(w.key)
		if owed[s]++; owed[s] <= s.starting {
			continue
		}
		if starved == 0 && p.held < p.most {
			p.start(w.key, s, false)
			continue
		}
		if starved++; p.closing < starved {
			p.evict()
		}
	}
	return starved == 0
}

// evict closes an idle instance of the key that was asked for the longest ago.
func (p *Pool[K, I]) evict() {
	var victim *shelf[I]
	for _, s := range p.shelves {
		if len(s.idle) > 0 && (victim == nil || s.used.Before(victim.used)) {
			victim = s
		}
	}
	if victim != nil {
		p.giveUp(victim, 0)
	}
}

// stock starts instances that nobody waits for, where the most is missing of what
// is wanted. Nothing is evicted for them.
func (p *Pool[K, I]) stock() {
	if time.Now().Before(p.quiet) {
		return
	}
	for p.refills < p.cfg.Refills && p.held < p.most {
		var neediest *shelf[I]
		var key K
		for k, s := range p.shelves {
			if p.spare(s) < p.owed(k) && p.refusal(s) == nil && (neediest == nil || p.filled(s) < p.filled(neediest)) {
				neediest, key = s, k
			}
		}
		if neediest == nil {
			return
		}
		p.start(key, neediest, true)
	}
}

// owed is how many callers of the key wait: what is under way for them will not
// be on the shelf.
func (p *Pool[K, I]) owed(key K) (n int) {
	for _, w := range p.line {
		if w.key == key {
			n++
		}
	}
	return n
}

// filled is the part of a shelf that is there, from 0 to 1.
func (p *Pool[K, I]) filled(s *shelf[I]) float64 {
	return float64(len(s.idle)+s.starting) / float64(p.wanted(s))
}
