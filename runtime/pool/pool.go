package pool

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

// Instance is what a pool holds. Its methods may be called from many goroutines.
type Instance interface {
	// Done is closed when the instance has died.
	Done() <-chan struct{}
	// Close kills it and returns when everything that it took is free again. The
	// pool calls it for what it does not hand out.
	Close()
}

// Config makes a Pool.
type Config[K comparable, I Instance] struct {
	// Start starts an instance; its ctx ends with the pool.
	Start func(ctx context.Context, key K) (I, error)
	// Memory bounds all instances that are idle or starting together; each is
	// charged Overhead, whatever it really takes; 0 means 16 MiB.
	Memory, Overhead functions.Bytes
	// Refills is how many instances are started at once that nobody waits for; 0
	// means 2. Starts on behalf of a caller do not count.
	Refills int
	// Expire is how long an Auto key is kept without a caller; 0 means 10 min.
	Expire time.Duration
	Log    *slog.Logger // nil discards
}

// overhead is an idle container's: its shim is 13 MiB, the entry program 2.
const overhead = 16 * functions.MiB

// Auto as the number of a key lets the pool reckon it from the calls.
const Auto = -1

// Pool holds instances. Run is its life.
type Pool[K comparable, I Instance] struct {
	cfg   Config[K, I]
	most  int // idle and starting
	group sync.WaitGroup
	nudge chan struct{} // something must be done at another time than Run waits for

	mu       sync.Mutex // guards the fields below
	work     context.Context
	open     bool
	shelves  map[K]*shelf[I]
	line     []*waiter[K, I] // oldest first
	held     int             // idle, starting and closing ones
	closing  int
	refills  int
	quiet    time.Time // no refills before
	handouts int64     // since the start
	waits    int64     // of them, those that were not idle when asked for
}

// waiter is a caller in the line.
type waiter[K comparable, I Instance] struct {
	key    K
	answer chan answer[I] // holds one
}

type answer[I Instance] struct {
	instance I
	err      error
}

// errClosed is the answer of a pool that does not run.
var errClosed = functions.Unavailable("pool_closed", "the pool of warm containers is stopping")

// New starts nothing.
func New[K comparable, I Instance](cfg Config[K, I]) *Pool[K, I] {
	cfg.Overhead = cmp.Or(cfg.Overhead, overhead)
	cfg.Refills = cmp.Or(cfg.Refills, 2)
	cfg.Expire = cmp.Or(cfg.Expire, 10*time.Minute)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Pool[K, I]{
		cfg: cfg, most: int(cfg.Memory / cfg.Overhead), nudge: make(chan struct{}, 1), shelves: make(map[K]*shelf[I]),
	}
}

// Run fills shelves and lets keys expire until ctx ends. Then it answers nobody
// any more, closes what is idle or starting, and returns when nothing is left.
func (p *Pool[K, I]) Run(ctx context.Context) {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p.mu.Lock()
	p.work, p.open = work, true
	p.fill()
	next := p.upkeep(time.Now())
	p.mu.Unlock()
	for ctx.Err() == nil {
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-p.nudge:
		case <-ctx.Done():
		}
		timer.Stop()
		p.mu.Lock()
		next = p.upkeep(time.Now())
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.open = false
	for _, w := range p.line {
		w.answer <- answer[I]{err: errClosed}
	}
	p.line = nil
	for _, s := range p.shelves {
		for len(s.idle) > 0 {
			p.giveUp(s, 0)
		}
	}
	p.mu.Unlock()
	stop()
	p.group.Wait()
}

// Keep says how many idle instances a key is to have: a number, or Auto. It
// counts from the first call on, and never as one: only Get tells of demand.
func (p *Pool[K, I]) Keep(key K, number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shelf(key)
	if s.number == number {
		return
	}
	s.number, s.used = number, time.Now()
	p.trim(s)
	p.fill()
}

// Retire forgets a key. Its idle instances are closed, and those under way go to
// who waits for them, or are closed when they come.
func (p *Pool[K, I]) Retire(key K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.shelves[key]; s != nil {
		p.retire(key, s)
		p.fill()
	}
}

// Get returns an instance that nobody has had and nobody else will get. The
// caller owns it, and closes it. It waits while one starts; an error is that of
// the start, of one that failed moments ago, or ctx's.
func (p *Pool[K, I]) Get(ctx context.Context, key K) (I, error) {
	var none I
	p.mu.Lock()
	if !p.open {
		p.mu.Unlock()
		return none, errClosed
	}
	s := p.shelf(key)
	s.asked(time.Now())
	if i, ok := p.take(s); ok {
		p.handouts++
		p.headStart(s, time.Now())
		p.fill()
		p.mu.Unlock()
		return i, nil
	}
	if err := p.refusal(s); err != nil {
		p.mu.Unlock()
		return none, err
	}
	w := &waiter[K, I]{key: key, answer: make(chan answer[I], 1)}
	p.line = append(p.line, w)
	p.fill()
	p.mu.Unlock()
	select {
	case a := <-w.answer:
		return a.instance, a.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	if i := slices.Index(p.line, w); i >= 0 {
		p.line = slices.Delete(p.line, i, i+1)
		p.fill()
		p.mu.Unlock()
		return none, fmt.Errorf("wait for an instance: %w", context.Cause(ctx))
	}
	p.mu.Unlock()
	a := <-w.answer // it came at the same moment
	return a.instance, a.err
}

// refusal is why a caller is not to wait.
func (p *Pool[K, I]) refusal(s *shelf[I]) error {
	if p.most < 1 {
		return functions.NewError(functions.ErrThrottled, "pool_room", "the pool has no room for an instance")
	}
	if time.Now().Before(s.retry) {
		return functions.Unavailable("pool_failing", "instances fail to start: the next try is at %s", s.retry.Format(time.RFC3339)).WithCause(s.failed)
	}
	return nil
}

// Count is what there is of a key.
type Count struct {
	Wanted, Idle, Starting, Waiting int
}

// Counts returns what there is of each key.
func (p *Pool[K, I]) Counts() map[K]Count {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[K]Count, len(p.shelves))
	for key, s := range p.shelves {
		if !s.retired {
			all[key] = Count{Wanted: p.wanted(s), Idle: len(s.idle), Starting: s.starting}
		}
	}
	for _, w := range p.line {
		c := all[w.key]
		c.Waiting++
		all[w.key] = c
	}
	return all
}

// Served returns how many instances were handed out, and how many callers had to
// wait for theirs.
func (p *Pool[K, I]) Served() (all, waited int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handouts, p.waits
}
