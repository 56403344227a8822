package node

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/store"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/oci"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// BenchmarkWarmTask measures what a task costs that finds a warm container, each
// from Admit: to the end of the hand-over, when the orders are out; to the first
// instruction of its program; and to the fin event. Behind the last task the pool
// has been filled again, and the engine is at rest. With docker the program comes
// by way of that engine's file system, with oci by way of overlayfs.
func BenchmarkWarmTask(b *testing.B) {
	b.Run("docker", func(b *testing.B) {
		w, cfg, _, image := warmDocker(b)
		cfg.Log = nil
		a := w.agent(cfg)
		measureWarm(b, a, 100*time.Millisecond, func() functions.Assignment { return w.warmImage(a, image, 2, "now") })
	})
	b.Run("oci", func(b *testing.B) {
		w, cfg, image := warmOCI(b)
		cfg.Log = nil
		a := w.agent(cfg)
		measureWarm(b, a, 100*time.Millisecond, func() functions.Assignment { return w.warmImage(a, image, 2, "now") })
	})
	// The agent's own part: its files, the hand-over and the collecting.
	b.Run("no engine", func(b *testing.B) {
		w := newWorld(b)
		w.fake.Add("box", runtimetest.Box)
		cfg := w.warmConfig()
		cfg.Log = nil
		a := w.agent(cfg)
		measureWarm(b, a, time.Millisecond, func() functions.Assignment { return w.warmOrder(a, 2, "now") })
	})
}

// warmOCI is a world without an engine, whose nodes keep warm containers.
func warmOCI(b *testing.B) (*world, Config, string) {
	w := newWorld(b)
	cfg := w.config()
	cfg.WarmMemory, cfg.Entry = functions.GiB, entrytest.Program(b)
	images, err := store.Open(store.Config{Dir: filepath.Join(w.dir, "images")})
	if err != nil {
		b.Fatal(err)
	}
	image, archive := runtimetest.BoxImage(b)
	if _, err := images.Load(b.Context(), bytes.NewReader(archive)); err != nil {
		b.Fatal(err)
	}
	const group = "spillway-warm-bench"
	d, err := oci.Open(b.Context(), oci.Config{
		Dir: filepath.Join(w.dir, "oci"), Program: cfg.Entry, Images: unpacked{images}, Cgroup: group,
	})
	if err == nil {
		b.Cleanup(func() {
			d.Close()
			for _, groups := range []string{"/sys/fs/cgroup/*/" + group + "/*", "/sys/fs/cgroup/*/" + group, "/sys/fs/cgroup/" + group} {
				found, _ := filepath.Glob(groups)
				for _, dir := range found {
					_ = syscall.Rmdir(dir) // a file is none, and what is in use stays
				}
			}
		})
		_, err = d.Probe(b.Context())
	}
	if err != nil {
		b.Skipf("SKIPPED: no OCI runtime can be used here (%v)", err)
	}
	cfg.Driver = d
	return w, cfg, image
}

// unpacked is a store of images as the driver oci takes it.
type unpacked struct{ *store.Store }

func (s unpacked) Pull(ctx context.Context, image string, _ func(runtime.PullProgress)) error {
	_, err := s.Store.Image(ctx, image)
	return err
}

func (s unpacked) Image(ctx context.Context, image string) (runtime.Image, error) {
	i, err := s.Store.Image(ctx, image)
	return runtime.Image{Names: i.Names, ID: i.ID, Size: i.Size, Entrypoint: i.Entrypoint, Command: i.Command, Env: i.Env}, err
}

func (s unpacked) Images(ctx context.Context) ([]runtime.Image, error) {
	found, err := s.Store.Images(ctx)
	all := make([]runtime.Image, len(found))
	for n, i := range found {
		all[n] = runtime.Image{Names: i.Names, ID: i.ID, Size: i.Size}
	}
	return all, err
}

func measureWarm(b *testing.B, a *agent, rest time.Duration, order func() functions.Assignment) {
	w := a.w
	k, _ := a.warm.learn(order().Function)
	var handed, running, result []time.Duration
	for b.Loop() {
		b.StopTimer()
		w.until("the pool is full", func() bool { c := a.warm.pool.Counts()[k]; return c.Idle == 2 && c.Starting == 0 })
		time.Sleep(rest)
		as := order()
		as.Function.Stdout = functions.StdoutResult
		id := fmt.Sprintf("fin-%s-1", as.Task.ID)
		b.StartTimer()
		began := time.Now()
		a.admit(as)
		var e functions.Event
		for ok := false; !ok; time.Sleep(50 * time.Microsecond) {
			w.log.mu.Lock()
			e, ok = w.log.ids[id]
			w.log.mu.Unlock()
		}
		result = append(result, time.Since(began))
		out := e.Fin.Outcome
		if out.Failure != nil || !out.Warm {
			b.Fatalf("outcome %+v", out)
		}
		ran, err := strconv.ParseInt(strings.TrimSpace(string(out.Result)), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		running = append(running, time.Unix(0, ran).Sub(began))
		handed = append(handed, w.log.enteredRun(as.Task.ID).Sub(began))
	}
	for name, all := range map[string][]time.Duration{"hand-off": handed, "running": running, "result": result} {
		slices.Sort(all)
		b.ReportMetric(float64(all[0].Microseconds())/1000, name+"-min-ms")
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}

// enteredRun is when a task's container had its orders.
func (l *memLog) enteredRun(id functions.TaskID) (at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.progress {
		if p.Task == id && p.Phase == functions.PhaseRun {
			return p.At
		}
	}
	return at
}
