package probe_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/gpu/probe/probetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// await is how long a test waits for what must come; it waits no longer than needed.
const await = 60 * time.Second

// machine is a watcher that runs, and what it has reported.
type machine struct {
	t       testing.TB
	watcher *probe.Watcher

	mu      sync.Mutex // guards the fields below
	more    chan struct{}
	reports []probe.Report
	taken   int
}

// watch runs a watcher until the test ends.
func watch(t testing.TB, cfg probe.Config) *machine {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	m := &machine{t: t, watcher: probe.New(cfg), more: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.watcher.Run(ctx, m.report); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

func (m *machine) report(r probe.Report) {
	m.mu.Lock()
	m.reports = append(m.reports, r)
	m.mu.Unlock()
	select {
	case m.more <- struct{}{}:
	default:
	}
}

// next takes reports until one is as wanted.
func (m *machine) next(what string, want func(probe.Report) bool) probe.Report {
	m.t.Helper()
	limit := time.NewTimer(await)
	defer limit.Stop()
	for {
		m.mu.Lock()
		for m.taken < len(m.reports) {
			r := m.reports[m.taken]
			m.taken++
			if want(r) {
				m.mu.Unlock()
				return r
			}
		}
		m.mu.Unlock()
		select {
		case <-m.more:
		case <-limit.C:
			m.t.Fatalf("no report of %s in %v; the last of %d is %+v", what, await, len(m.reports), m.reports[max(0, len(m.reports)-1):])
		}
	}
}

// reading takes reports until a reading is as wanted.
func (m *machine) reading(what string, want func(probe.Reading) bool) probe.Reading {
	m.t.Helper()
	return *m.next(what, func(r probe.Report) bool { return r.Reading != nil && want(*r.Reading) }).Reading
}

func (m *machine) status(s probe.Status) probe.Reading {
	m.t.Helper()
	return m.reading("status "+string(s), func(r probe.Reading) bool { return r.Status == s })
}

// with is a configuration that reads a driver by the real gpuprobe, often.
func with(t testing.TB, d *probetest.Driver) probe.Config {
	return probe.Config{Program: probetest.Program(t), Every: 20 * time.Millisecond, Stale: 10 * time.Second, Env: d.Env()}
}

// running are the processes of a program.
func running(t testing.TB, program string) []int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == program {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}
