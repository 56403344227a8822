package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker"
	"github.com/spillway/spillway/runtime/entry/entrytest"
)

// warmDocker is a world on the real engine, whose nodes keep warm containers.
func warmDocker(t testing.TB) (*world, Config, *docker.Driver, string) {
	d, image := realDocker(t)
	w := newWorld(t)
	cfg := w.config()
	cfg.ID = functions.NodeID("test-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())))
	cfg.Driver, cfg.WarmMemory = d, functions.GiB
	cfg.Entry = entrytest.Program(t)
	noneLeft(t, d, cfg.ID)
	return w, cfg, d, image
}

func (w *world) warmImage(a *agent, image string, warm functions.Warm, args ...string) functions.Assignment {
	as := w.order(a)
	as.Function.Image, as.Function.Warm, as.Function.Command = image, warm, args
	return as
}

// finOf waits for the end of an attempt, whatever the node is called.
func (w *world) finOf(as functions.Assignment) functions.Outcome {
	w.t.Helper()
	var e functions.Event
	w.until("fin of "+string(as.Task.ID), func() (ok bool) {
		w.log.mu.Lock()
		defer w.log.mu.Unlock()
		e, ok = w.log.ids[fmt.Sprintf("fin-%s-%d", as.Task.ID, as.Attempt)]
		return ok
	})
	return e.Fin.Outcome
}

// nothingIdle stops the agent and checks that nothing of it is left. What a slow
// engine has not removed by then is the next agent's to remove.
func (w *world) nothingIdle(a *agent, cfg Config, d *docker.Driver) {
	w.t.Helper()
	a.quit()
	cfg.WarmMemory = 0
	next := w.agent(cfg)
	w.until("containers are gone", func() bool {
		left, err := d.List(w.t.Context(), map[string]string{runtime.LabelNode: string(cfg.ID)})
		return err == nil && len(left) == 0
	})
	next.quit()
	w.until("folders are gone", func() bool {
		for _, dir := range []string{"tasks", "warm"} {
			left, err := os.ReadDir(filepath.Join(w.dir, "node", dir))
			if len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
				return false
			}
		}
		return true
	})
}

func TestWarmOnDocker(t *testing.T) {
	w, cfg, d, image := warmDocker(t)
	a := w.agent(cfg)
	version := 0
	for _, c := range []struct {
		name   string
		args   []string
		change func(*functions.Assignment)
		class  functions.Class
		result string
		output string
	}{
		{name: "reads its input", args: []string{"cat", "{in}"}, result: "miaow"},
		{name: "reads its event", args: []string{"cat"}, result: `{"x":1}`},
		{name: "reads event.json", args: []string{"cat", "/task/event.json"}, result: `"inputs":[{"name":"x"`},
		{name: "keeps the image's values", args: []string{"env", "BOX"}, result: "image"},
		{name: "is told its task", args: []string{"env", "TASK_ID"}, result: "00000000-0000-7000-8000"},
		{name: "sees no GPU", args: []string{"env", "NVIDIA_VISIBLE_DEVICES"}, result: "void"},
		{name: "has the image's command", result: "hello"},
		{name: "writes an output", args: []string{"write", "/task/out/zeros", "1"}, output: "zeros"},
		{name: "writes beside its input", args: []string{"write", "/task/in/y", "1"}, class: functions.ExitError},
		{name: "writes over event.json", args: []string{"write", "/task/event.json", "1"}, class: functions.ExitError},
		{name: "writes to the root", args: []string{"write", "/x", "1"}, class: functions.ExitError},
		{name: "exits with a code", args: []string{"exit", "75"}, class: functions.TempFail},
		{name: "dies of a signal", args: []string{"signal", "9"}, class: functions.Crashed},
		{name: "uses too much memory", args: []string{"alloc", "200"}, class: functions.OutOfMemory},
		{name: "is not there", change: func(as *functions.Assignment) { as.Function.Entrypoint = []string{"/nope"} }, class: functions.BadEntry},
		{name: "runs too long", args: []string{"deaf"}, change: func(as *functions.Assignment) {
			as.Function.Timeout, as.Function.Grace = functions.Duration(time.Second), functions.Duration(time.Second)
		}, class: functions.TimedOutRun},
		{name: "leaves a child that writes", args: []string{"leave", "/task/out/x"}, output: "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			version++
			order := func() functions.Assignment {
				as := w.warmImage(a, image, 1, c.args...)
				as.Function.Version, as.Function.Stdout = version, functions.StdoutResult
				as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: w.store.add("x", "miaow")}}
				if c.change != nil {
					c.change(&as)
				}
				return as
			}
			k, _ := a.warm.learn(order().Function)
			w.until("one is idle", func() bool { return a.warm.pool.Counts()[k].Idle == 1 })
			as := order()
			a.admit(as)
			out := w.finOf(as)
			if !out.Warm {
				t.Error("it was not warm")
			}
			t.Logf("phases %v, peak %s", out.Phases, out.PeakMemory)
			if c.class != "" {
				if out.Failure == nil || out.Failure.Class != c.class {
					t.Fatalf("failure %+v, want %s", out.Failure, c.class)
				}
				t.Log(out.Failure.Message)
				return
			}
			if out.Failure != nil {
				t.Fatalf("failed: %+v, log %q", *out.Failure, out.LogTail)
			}
			if out.PeakMemory == 0 {
				t.Error("its peak memory is not known")
			}
			text := string(out.Result)
			if out.ResultText != nil {
				text = *out.ResultText
			}
			if !strings.Contains(text, c.result) {
				t.Errorf("result %q, want %q", text, c.result)
			}
			if c.output != "" && !slices.Equal(outputNames(out), []string{c.output}) {
				t.Errorf("outputs %+v", out.Outputs)
			}
		})
	}

	t.Run("is canceled", func(t *testing.T) {
		version++
		as := w.warmImage(a, image, 1, "trap", "0")
		as.Function.Version = version
		a.admit(as)
		w.until("it runs", func() bool { return w.log.heardOf(as.Task.ID) > 0 })
		if err := a.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		out := w.finOf(as)
		if out.Failure == nil || out.Failure.Class != functions.CanceledByUser || out.LogTail != "ready\nterminated\n" {
			t.Errorf("outcome %+v, log %q", out.Failure, out.LogTail)
		}
	})

	t.Run("outlives its agent", func(t *testing.T) {
		version++
		as := w.warmImage(a, image, 1, "trap", "0")
		as.Function.Version = version
		a.admit(as)
		w.until("it runs", func() bool { return w.log.heardOf(as.Task.ID) > 0 })
		a.quit()
		a = w.agent(cfg)
		w.until("it is adopted", func() bool { return w.inPhase(functions.PhaseRun) })
		if err := a.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		out := w.finOf(as)
		if out.Failure == nil || out.Failure.Class != functions.CanceledByUser || out.LogTail != "ready\nterminated\n" {
			t.Errorf("outcome %+v, log %q", out.Failure, out.LogTail)
		}
	})
	t.Run("never got its orders", func(t *testing.T) {
		version++
		as := w.warmImage(a, image, 1, "echo", "x")
		as.Function.Version = version
		a.admit(as)
		w.finOf(as)
		as = w.warmImage(a, image, 1, "echo", "y")
		as.Function.Version = version
		id := w.orphan(a, as)
		w.until("its entry program has ended", func() bool {
			exit, err := d.Wait(t.Context(), id)
			return err == nil && exit.Code == 125
		})
		a.quit()
		a = w.agent(cfg)
		if out := w.finOf(as); out.Failure != nil || out.LogTail != "y\n" {
			t.Errorf("outcome %+v, log %q", out.Failure, out.LogTail)
		}
	})
	w.until("nothing is held", func() bool { return len(w.log.lastBeat().Running) == 0 })
	w.nothingIdle(a, cfg, d)
}

// 50 tasks through a pool of 4: each container serves one of them.
func TestManyWarmTasksOnDocker(t *testing.T) {
	const tasks = 50
	w, cfg, d, image := warmDocker(t)
	cfg.WarmMemory = 6 * 16 * functions.MiB
	a := w.agent(cfg)
	containers := map[string]bool{}
	var mu sync.Mutex
	var group sync.WaitGroup
	var orders []functions.Assignment
	for range tasks {
		as := w.warmImage(a, image, 4, "echo", "{task}")
		as.Function.Stdout = functions.StdoutResult
		orders = append(orders, as)
	}
	turn := make(chan functions.Assignment)
	for range 4 { // at once
		group.Go(func() {
			for as := range turn {
				a.admit(as)
				out := w.finOf(as)
				mu.Lock()
				if out.Failure != nil || out.ResultText == nil || *out.ResultText != string(as.Task.ID)+"\n" {
					t.Errorf("%s: %+v", as.Task.ID, out)
				}
				containers[out.Container] = true
				mu.Unlock()
			}
		})
	}
	for _, as := range orders {
		turn <- as
	}
	close(turn)
	group.Wait()
	if len(containers) != tasks {
		t.Errorf("%d containers for %d tasks", len(containers), tasks)
	}
	all, waited := a.warm.pool.Served()
	t.Logf("%d tasks came through the pool, %d of them waited for their container", all, waited)
	w.until("the pool is full, and nothing else is there", func() bool {
		found, err := d.List(t.Context(), map[string]string{runtime.LabelNode: string(cfg.ID)})
		return err == nil && len(found) == 4
	})
	w.nothingIdle(a, cfg, d)
}
