package tasklog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// fast is for tests that wait for a lease to end. The server counts in whole
// seconds, and the margin is for a machine that stands still for a moment.
var fast = timing{ttl: 4 * time.Second, renew: 200 * time.Millisecond, margin: 2 * time.Second, poll: 50 * time.Millisecond}

// terms records who leads.
type terms struct {
	mu     sync.Mutex
	active map[string]uint64
	begun  map[uint64]string
	most   int // at once
}

func newTerms() *terms { return &terms{active: map[string]uint64{}, begun: map[uint64]string{}} }

func (m *terms) term(id string) func(context.Context, uint64) error {
	return func(ctx context.Context, epoch uint64) error {
		m.mu.Lock()
		m.active[id] = epoch
		m.begun[epoch] = id
		m.most = max(m.most, len(m.active))
		m.mu.Unlock()
		<-ctx.Done()
		m.mu.Lock()
		delete(m.active, id)
		m.mu.Unlock()
		return ctx.Err()
	}
}

func (m *terms) leads(id string) bool { return m.epoch(id) != 0 }

func (m *terms) epoch(id string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active[id]
}

func lead(t *testing.T, l *Log, id string, p Projection, term func(context.Context, uint64) error) (stop func()) {
	t.Helper()
	return background(t, func(ctx context.Context) error { return l.Lead(ctx, id, p, term) })
}

func openFast(t *testing.T, cfg Config) *Log {
	t.Helper()
	l := openWith(t, cfg)
	l.timing = fast
	return l
}

// openLasting is openFast with leases that no test outlives: neither a stall
// ends a term nor the time explains that another leads.
func openLasting(t *testing.T, cfg Config) *Log {
	t.Helper()
	l := openFast(t, cfg)
	l.timing.ttl = time.Hour
	return l
}

func TestLeadHandsOverOnStop(t *testing.T) {
	s := startServer(t, t.TempDir())
	a, b := openLasting(t, Config{Server: s}), openLasting(t, Config{Server: s}) // only the hand-over frees the way
	m := newTerms()
	stop := lead(t, a, "a", project(t, a), m.term("a"))
	eventually(t, "a leads", func() bool { return m.leads("a") })
	first := m.epoch("a")
	lead(t, b, "b", project(t, b), m.term("b"))
	stop()
	eventually(t, "b leads", func() bool { return m.leads("b") })
	if m.epoch("b") <= first || m.most != 1 {
		t.Errorf("epochs %d and %d, %d leaders at once", first, m.epoch("b"), m.most)
	}
}

// TestDeadLeaderIsReplaced closes the leader's connection, as a kill does.
func TestDeadLeaderIsReplaced(t *testing.T) {
	s := startServer(t, t.TempDir())
	a, b := openLasting(t, Config{Server: s}), openLasting(t, Config{Server: s}) // only the pings can tell
	m := newTerms()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g sync.WaitGroup
	defer g.Wait()
	pa := newProjection()
	g.Go(func() { a.Tail(ctx, 0, pa.apply) })
	g.Go(func() { a.Lead(ctx, "a", pa, m.term("a")) })
	eventually(t, "a leads", func() bool { return m.leads("a") })
	lead(t, b, "b", project(t, b), m.term("b"))
	a.Close()
	eventually(t, "b leads", func() bool { return m.leads("b") })
	cancel()
}

// TestPausedLeaderIsFenced freezes the leader's network: its connection stands,
// so only the end of its lease frees the way, and it must have stepped down
// before. A decision under the old epoch changes nothing.
func TestPausedLeaderIsFenced(t *testing.T) {
	s := startServerWith(t, ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "x"})
	gate := newGate(t, strings.TrimPrefix(s.ClientURL(), "nats://"))
	a := openFast(t, Config{URL: "nats://" + gate.addr(), Token: "x"})
	b := openLasting(t, Config{Server: s})
	id := newID()
	if _, err := b.Submit(t.Context(), submission(id)); err != nil {
		t.Fatal(err)
	}
	m := newTerms()
	lead(t, a, "a", project(t, a), m.term("a"))
	eventually(t, "a leads", func() bool { return m.leads("a") })
	old := m.epoch("a")
	pb := project(t, b)
	lead(t, b, "b", pb, m.term("b"))

	gate.freeze()
	eventually(t, "b leads", func() bool { return m.leads("b") })
	epoch := m.epoch("b")
	assign := func(epoch uint64, node functions.NodeID) uint64 {
		seq, err := b.Append(t.Context(), "", functions.Event{
			Kind: functions.Assign, Task: id, At: time.Now(),
			Asg: &functions.Placement{Epoch: epoch, Attempt: 1, Node: node, Boot: "1", Device: functions.CPU},
		})
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	seq := assign(old, "n-old")
	if err := pb.WaitApplied(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	if got := pb.task(id); got.State != functions.Queued {
		t.Errorf("the old leader's decision counts: %s", got.State)
	}
	seq = assign(epoch, "n-new")
	if err := pb.WaitApplied(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	if got := pb.task(id); got.State != functions.Assigned || got.Last().Node != "n-new" {
		t.Errorf("the new leader's decision does not count: %s", got.State)
	}
	if m.most != 1 {
		t.Errorf("%d terms ran at once", m.most)
	}
	gate.thaw()
	eventually(t, "b stays", func() bool { return m.epoch("b") == epoch })
}

// TestStaleEpochEndsTheTerm: another leader's record is enough, whatever the
// lease says.
func TestStaleEpochEndsTheTerm(t *testing.T) {
	l := openLasting(t, Config{Server: startServer(t, t.TempDir())})
	m := newTerms()
	lead(t, l, "a", project(t, l), m.term("a"))
	eventually(t, "a leads", func() bool { return m.leads("a") })
	first := m.epoch("a")
	seq, err := l.Append(t.Context(), "", functions.Event{Kind: functions.Lead, Ldr: &functions.Leader{ID: "other"}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a leads again with a newer epoch", func() bool { return m.epoch("a") > seq })
	if m.epoch("a") <= first {
		t.Errorf("epoch %d after %d", m.epoch("a"), first)
	}
}

// TestLeaseBucketGoneAfterRestart: the bucket lives in memory. A single server
// leads again at once, without waiting for the old lease.
func TestLeaseBucketGoneAfterRestart(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir)
	a := openLasting(t, Config{Server: s})
	m := newTerms()
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	p := newProjection()
	g.Go(func() { a.Tail(ctx, 0, p.apply) })
	g.Go(func() { a.Lead(ctx, "a", p, m.term("a")) })
	eventually(t, "a leads", func() bool { return m.leads("a") })
	a.Close() // no hand-over: as killed
	cancel()
	g.Wait()
	s.Shutdown()

	b := openLasting(t, Config{Server: startServer(t, dir)})
	lead(t, b, "a", project(t, b), m.term("b"))
	eventually(t, "b leads", func() bool { return m.leads("b") })
}

// TestLeaderOutlivesServerRestart: the server restarts under a living leader;
// the bucket is made again, and the term goes on.
func TestLeaderOutlivesServerRestart(t *testing.T) {
	cfg := ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "x"}
	s := startServerWith(t, cfg)
	l := openLasting(t, Config{URL: s.ClientURL(), Token: "x"})
	cfg.Listen = strings.TrimPrefix(s.ClientURL(), "nats://")
	m := newTerms()
	lead(t, l, "a", project(t, l), m.term("a"))
	eventually(t, "a leads", func() bool { return m.leads("a") })
	epoch := m.epoch("a")
	s.Shutdown()
	startServerWith(t, cfg)
	eventually(t, "the lease is there again", func() bool {
		kv, err := l.js.KeyValue(t.Context(), leaseBucket)
		if err != nil {
			return false
		}
		_, err = kv.Get(t.Context(), leaseKey)
		return err == nil
	})
	if m.epoch("a") != epoch {
		t.Errorf("epoch %d became %d", epoch, m.epoch("a"))
	}
}

func TestTermThatEndsStepsDown(t *testing.T) {
	s := startServer(t, t.TempDir())
	l := openFast(t, Config{Server: s})
	epochs := make(chan uint64, 16)
	lead(t, l, "a", project(t, l), func(_ context.Context, epoch uint64) error {
		select {
		case epochs <- epoch:
		default:
		}
		return errors.New("cannot go on")
	})
	if first, second := <-epochs, <-epochs; second <= first {
		t.Errorf("epoch %d after %d", second, first)
	}
}

func TestLeadRefusesABadName(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	if err := l.Lead(t.Context(), "a.b", newProjection(), nil); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// TestManyServersOneLeader: whoever leads, leads alone.
func TestManyServersOneLeader(t *testing.T) {
	s := startServer(t, t.TempDir())
	m := newTerms()
	var stops []func()
	for i := range 4 {
		l := openLasting(t, Config{Server: s})
		id := fmt.Sprintf("s%d", i)
		stops = append(stops, lead(t, l, id, project(t, l), m.term(id)))
	}
	for i := range 3 {
		eventually(t, "one leads", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.active) == 1 && len(m.begun) > i
		})
		m.mu.Lock()
		var leader int
		for id := range m.active {
			fmt.Sscanf(id, "s%d", &leader)
		}
		m.mu.Unlock()
		stops[leader]()
	}
	if m.most != 1 {
		t.Errorf("%d terms ran at once", m.most)
	}
}

func newLease(t *testing.T, l *Log, id string) *lease {
	t.Helper()
	s := &lease{log: l, self: holder{ID: id, Token: id}, value: []byte(`{"id":"` + id + `","token":"` + id + `"}`)}
	if err := s.bucket(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKeyExistsAndRevisionMismatchBothLose: the two errors differ, and the
// library's own test for the first misses replicated buckets.
func TestKeyExistsAndRevisionMismatchBothLose(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	a, b := newLease(t, l, "a"), newLease(t, l, "b")
	if err := a.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.create(t.Context()); !errors.Is(err, errLost) {
		t.Errorf("a second create: %v", err)
	}
	b.rev = a.rev + 7
	if err := b.renew(t.Context()); !errors.Is(err, errLost) {
		t.Errorf("renewing another's: %v", err)
	}
	if err := b.release(t.Context()); !conflicted(err) {
		t.Errorf("releasing another's: %v", err)
	}
	if err := a.renew(t.Context()); err != nil {
		t.Errorf("renewing one's own: %v", err)
	}
	replicated := &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequenceConstant}
	if !conflicted(replicated) || errors.Is(replicated, jetstream.ErrKeyExists) {
		t.Error("the answer of a replicated bucket is not known")
	}
}

// TestRenewWhoseAnswerWasLost: the key moved on by our own hand.
func TestRenewWhoseAnswerWasLost(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	a := newLease(t, l, "a")
	if err := a.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.update(t.Context()); err != nil { // a.rev is not told
		t.Fatal(err)
	}
	if err := a.renew(t.Context()); err != nil {
		t.Errorf("renew: %v", err)
	}
	a = newLease(t, l, "a") // neither was the first create
	if _, err := a.attempt(t.Context(), 0); err != nil {
		t.Errorf("attempt: %v", err)
	}
}

// TestLeaseEndsInItsTime: with the wrong bucket settings the server raises every
// TTL to the one of its markers.
func TestLeaseEndsInItsTime(t *testing.T) {
	l := openFast(t, Config{Server: startServer(t, t.TempDir())})
	a, b := newLease(t, l, "a"), newLease(t, l, "b")
	start := time.Now()
	if err := a.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.renew(t.Context()); err != nil { // keeps its TTL, too
		t.Fatal(err)
	}
	eventually(t, "the lease ends", func() bool { return b.create(t.Context()) == nil })
	if d := time.Since(start); d < fast.ttl-100*time.Millisecond || d > 5*fast.ttl {
		t.Errorf("a lease of %v ended after %v", fast.ttl, d)
	}
}

// gate is a TCP proxy that can stop passing bytes on without closing.
type gate struct {
	ln net.Listener
	mu sync.RWMutex // held for writing while frozen
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{ln: ln}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			conns.Go(func() { g.pass(in, out) })
			conns.Go(func() { g.pass(out, in) })
		}
	})
	t.Cleanup(func() { ln.Close(); conns.Wait() })
	return g
}

func (g *gate) addr() string { return g.ln.Addr().String() }
func (g *gate) freeze()      { g.mu.Lock() }
func (g *gate) thaw()        { g.mu.Unlock() }

func (g *gate) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		g.mu.RLock()
		_, werr := to.Write(buf[:n])
		g.mu.RUnlock()
		if err != nil || werr != nil {
			return
		}
	}
}
