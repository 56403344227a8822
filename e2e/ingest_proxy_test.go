package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// hookMode is what a hookProxy does with the store's reports.
type hookMode string

const (
	hooksPass   hookMode = "pass"   // delivers each once
	hooksMix    hookMode = "mix"    // delays some, delivers some twice, loses a few
	hooksFail   hookMode = "500"    // answers 500 and delivers nothing
	hooksBreak  hookMode = "break"  // breaks the connection after delivering: the store cannot know
	hooksHold   hookMode = "hold"   // answers 200 and delivers later, shuffled
	hooksAbsent hookMode = "absent" // nobody listens
)

// hookProxy stands between a store and the server that it reports to. It keeps
// every report for replays.
type hookProxy struct {
	addr string // where the store reports to
	to   string // the server, host:port

	mu     sync.Mutex // guards the fields below
	mode   hookMode
	rng    *rand.Rand
	seen   []delivery
	held   []delivery
	server *http.Server // nil while absent
}

// delivery is one report as the store sent it.
type delivery struct {
	path   string
	header http.Header
	body   []byte
}

func startHookProxy(t *testing.T, to string, seed uint64) *hookProxy {
	t.Helper()
	p := &hookProxy{addr: "127.0.0.1:0", to: to, mode: hooksPass, rng: rand.New(rand.NewPCG(seed, 77))}
	if err := p.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.server.Close() })
	return p
}

func (p *hookProxy) listen() error {
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("listen for the store's reports: %w", err)
	}
	p.addr, p.server = ln.Addr().String(), &http.Server{Handler: p}
	go p.server.Serve(ln)
	return nil
}

// set changes the mode. Leaving hold delivers what was held, shuffled.
func (p *hookProxy) set(mode hookMode) error {
	p.mu.Lock()
	before, held := p.mode, p.held
	p.mode, p.held = mode, nil
	p.rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
	p.mu.Unlock()
	if mode == hooksAbsent && before != hooksAbsent {
		p.server.Close()
	}
	if mode != hooksAbsent && before == hooksAbsent {
		if err := p.listen(); err != nil {
			return err
		}
	}
	for _, d := range held {
		_, _ = p.deliver(context.Background(), d) // a lost one is for the listing
	}
	return nil
}

func (p *hookProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	d := delivery{r.URL.Path, maps.Clone(r.Header), body}
	p.mu.Lock()
	mode, dice, late := p.mode, p.rng.IntN(100), time.Duration(p.rng.IntN(100))*time.Millisecond
	if len(body) > 0 {
		p.seen = append(p.seen, d)
		if mode == hooksHold {
			p.held = append(p.held, d)
		}
	}
	p.mu.Unlock()
	times := 1
	switch {
	case mode == hooksHold && len(body) > 0, mode == hooksMix && dice < 5:
		return // 200
	case mode == hooksFail:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case mode == hooksMix && dice < 15:
		times = 2
	case mode == hooksMix && dice < 30:
		time.Sleep(late)
	}
	status := http.StatusBadGateway
	for range times {
		if status, err = p.deliver(r.Context(), d); err != nil {
			status = http.StatusBadGateway
		}
	}
	if mode == hooksBreak {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
}

func (p *hookProxy) deliver(ctx context.Context, d delivery) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.to+d.path, bytes.NewReader(d.body))
	if err != nil {
		return 0, err
	}
	req.Header = d.header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode, nil
}

// recorded is every report so far.
func (p *hookProxy) recorded() []delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]delivery(nil), p.seen...)
}

// replay delivers every report so often again, shuffled, eight at a time. Each
// must be taken: to the store a refused one is one that it sends for ever.
func (p *hookProxy) replay(t *testing.T, times int) {
	t.Helper()
	var all []delivery
	for range times {
		all = append(all, p.recorded()...)
	}
	p.mu.Lock()
	p.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	p.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(8)
	for _, d := range all {
		g.Go(func() error {
			status, err := p.deliver(t.Context(), d)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("answered %d to %s", status, d.body)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Errorf("replay: %v", err)
	}
	t.Logf("replayed %d reports", len(all))
}
