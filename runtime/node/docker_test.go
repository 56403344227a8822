package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker"
	"github.com/spillway/spillway/runtime/docker/dockertest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// realDocker is the engine of this machine, with the test image.
func realDocker(t testing.TB) (*docker.Driver, string) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what runs on an engine")
	}
	d := dockertest.Open(t, "")
	image, archive := runtimetest.BoxImage(t)
	dockertest.Load(t, d, image, archive)
	return d, image
}

// noneLeft checks at the end that no container of the node is left. It returns
// what they are known by.
func noneLeft(t testing.TB, d *docker.Driver, node functions.NodeID) map[string]string {
	labels := map[string]string{runtime.LabelNode: string(node)}
	t.Cleanup(func() {
		left, err := d.List(context.WithoutCancel(t.Context()), labels)
		if err != nil || len(left) > 0 {
			t.Errorf("containers are left: %+v, %v", left, err)
		}
		for _, c := range left {
			if err := d.Remove(context.WithoutCancel(t.Context()), c.ID); err != nil {
				t.Error(err)
			}
		}
	})
	return labels
}

// The agent on a real engine: what the fake cannot show is that the mounts, the
// user and the limits fit together, and that output survives an agent.
func TestOnDocker(t *testing.T) {
	d, image := realDocker(t)
	w := newWorld(t)
	cfg := w.config()
	cfg.ID = functions.NodeID("test-" + strings.ToLower(t.Name()))
	cfg.Driver = d
	labels := noneLeft(t, d, cfg.ID)
	a := w.agent(cfg)
	order := func(args ...string) functions.Assignment {
		as := w.order(a, args...)
		as.Function.Image = image
		return as
	}
	fin := func(as functions.Assignment) functions.Outcome {
		t.Helper()
		var e functions.Event
		w.until("fin", func() (ok bool) {
			w.log.mu.Lock()
			defer w.log.mu.Unlock()
			e, ok = w.log.ids["fin-"+string(as.Task.ID)+"-1"]
			return ok
		})
		return e.Fin.Outcome
	}
	gone := func() {
		t.Helper()
		w.until("containers are gone", func() bool {
			left, err := d.List(t.Context(), labels)
			return err == nil && len(left) == 0
		})
	}

	for name, c := range map[string]struct {
		args   []string
		change func(*functions.Assignment)
		class  functions.Class
		result string
		output string
	}{
		"reads its input":         {args: []string{"cat", "{in}"}, result: "miaow"},
		"reads its event":         {args: []string{"cat"}, result: `{"x":1}`},
		"reads event.json":        {args: []string{"cat", "/task/event.json"}, result: `"inputs":[{"name":"x"`},
		"is told its device":      {args: []string{"env", "TASK_DEVICE"}, result: "cpu"},
		"sees no GPU":             {args: []string{"env", "NVIDIA_VISIBLE_DEVICES"}, result: "void"},
		"writes an output":        {args: []string{"write", "/task/out/zeros", "1"}, output: "zeros"},
		"writes beside its input": {args: []string{"write", "/task/in/y", "1"}, class: functions.ExitError},
		"writes over event.json":  {args: []string{"write", "/task/event.json", "1"}, class: functions.ExitError},
		"writes to /tmp":          {args: []string{"write", "/tmp/x", "1"}},
		"writes to the root":      {args: []string{"write", "/x", "1"}, class: functions.ExitError},
		"uses too much memory":    {args: []string{"alloc", "200"}, class: functions.OutOfMemory},
		"is not there":            {change: func(as *functions.Assignment) { as.Function.Entrypoint = []string{"/nope"} }, class: functions.BadEntry},
		"runs too long": {args: []string{"deaf"}, change: func(as *functions.Assignment) {
			as.Function.Timeout, as.Function.Grace = functions.Duration(time.Second), functions.Duration(time.Second)
		}, class: functions.TimedOutRun},
	} {
		t.Run(name, func(t *testing.T) {
			as := order(c.args...)
			as.Function.Command = c.args
			as.Function.Stdout = functions.StdoutResult
			as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: w.store.add("x", "miaow")}}
			if c.change != nil {
				c.change(&as)
			}
			a.admit(as)
			out := fin(as)
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
			text := string(out.Result)
			if out.ResultText != nil {
				text = *out.ResultText
			}
			if !strings.Contains(text, c.result) {
				t.Errorf("result %q, want %q", text, c.result)
			}
			if c.output != "" && (len(out.Outputs) != 1 || out.Outputs[0].Name != c.output || out.Outputs[0].Size != 1<<20) {
				t.Errorf("outputs %+v", out.Outputs)
			}
			t.Logf("phases %+v", out.Phases)
		})
	}
	gone()

	t.Run("outlives its agent", func(t *testing.T) {
		as := order()
		as.Function.Command = []string{"trap", "0"}
		a.admit(as)
		w.until("it runs", func() bool {
			w.log.mu.Lock()
			defer w.log.mu.Unlock()
			return len(w.log.lines) > 0 && w.log.lines[len(w.log.lines)-1].Text == "ready"
		})
		a.quit()
		second := w.agent(cfg)
		w.until("it is adopted", func() bool { return w.inPhase(functions.PhaseRun) })
		if err := second.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		out := fin(as)
		if out.Failure == nil || out.Failure.Class != functions.CanceledByUser || out.LogTail != "ready\nterminated\n" {
			t.Errorf("outcome %+v, log %q", out.Failure, out.LogTail)
		}
		gone()
	})
}
