package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// web makes an order of a server's.
func (w *world) web(a *agent, name functions.Name, image, event string) functions.Assignment {
	as := w.order(a)
	as.Function.Spec = functions.Spec{
		Name: name, Image: image, Contract: functions.HTTPContract, Limits: functions.Limits{Memory: 64 * functions.MiB},
	}.WithDefaults()
	as.Task.Function, as.Task.Event = name, json.RawMessage(event)
	return as
}

func TestServingNeedsTheEntryProgram(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		out := w.do(a, w.web(a, "web", "box", `{}`))
		wantClass(t, out, functions.Infra, functions.PhaseStage)
		if !strings.Contains(out.Failure.Hint, "make build") {
			t.Errorf("hint %q", out.Failure.Hint)
		}
		w.nothingLeft()
	})
}

// What became of a task whose container has died with its agent nobody knows.
func TestServingIsNotAdopted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.agent(w.config())
		as := w.web(first, "web", "box", `{}`)
		first.quit()
		a := newAttempt(w.config().DataDir, record{Assignment: as})
		if err := a.persist(newBlanks(t.TempDir(), containerUser())); err != nil {
			t.Fatal(err)
		}
		if err := a.folder.note(entry{State: &state{StartedAt: time.Now()}}); err != nil {
			t.Fatal(err)
		}
		w.agent(w.config())
		wantClass(t, w.fin(as), functions.Infra, functions.PhaseRun)
		w.nothingLeft()
	})
}

func TestServedEnvironment(t *testing.T) {
	as := functions.Assignment{Device: functions.CPU, Task: functions.Task{ID: "id", Function: "web", Version: 2}, Function: functions.Function{Version: 2}}
	for contract, want := range map[functions.Contract][]string{
		functions.HTTPContract:   {"PORT=8080", "AWS_LAMBDA_HTTP_ENDPOINT=127.0.0.1:8080", "K_SERVICE=web", "K_REVISION=web-2", "TASK_VERSION=2", "TZ=mine"},
		functions.LambdaContract: {"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512", "AWS_LAMBDA_FUNCTION_TIMEOUT=300", "TASK_FUNCTION=web", "TZ=mine"},
	} {
		s := functions.Spec{Name: "web", Contract: contract, Env: map[string]string{"TZ": "mine"}}.WithDefaults()
		as.Function.Spec = s
		env := servedEnvironment(as, s, nil, "name")
		for _, kv := range want {
			if !slices.Contains(env, kv) {
				t.Errorf("%s lacks %s: %v", contract, kv, env)
			}
		}
		for _, kv := range env {
			if k, _, _ := strings.Cut(kv, "="); slices.Contains(perTask, k) {
				t.Errorf("%s has %s, which is of one task", contract, kv)
			}
		}
	}
}

func TestInputsInTheEvent(t *testing.T) {
	as := functions.Assignment{Attempt: 2, Task: functions.Task{ID: "id", Inputs: []functions.Input{{Name: "cat.png", ObjectRef: functions.ObjectRef{Bucket: "uploads", Key: "in/cat.png"}}}}}
	var got struct {
		A    int
		Task struct {
			ID      string
			Attempt int
			Inputs  []map[string]any
		} `json:"_task"`
	}
	if err := json.Unmarshal(withInputs(as, []byte(`{"a":1}`)), &got); err != nil || got.A != 1 || got.Task.ID != "id" || got.Task.Attempt != 2 || len(got.Task.Inputs) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if in := got.Task.Inputs[0]; in["key"] != "in/cat.png" || in["path"] != nil {
		t.Errorf("input %v", in)
	}
	for _, event := range []string{`[1]`, `null`, `"text"`} {
		if with := withInputs(as, []byte(event)); string(with) != event {
			t.Errorf("%s became %s", event, with)
		}
	}
}

func TestWhatIsJSON(t *testing.T) {
	for kind, want := range map[string]bool{"": true, "application/json; charset=utf-8": true, "application/problem+json": true, "text/plain": false, "image/png": false, ";": false} {
		if got := isJSON(kind, functions.HTTPContract); got != want {
			t.Errorf("%q of a server: %v", kind, got)
		}
		if !isJSON(kind, functions.LambdaContract) {
			t.Errorf("%q of a Lambda runtime counts", kind)
		}
	}
}

// Containers that wait give way to tasks that were admitted, and one that is
// stopped under its task goes with it.
func TestServingOnDocker(t *testing.T) {
	d, _ := realDocker(t)
	image, archive := runtimetest.ProgramImage(t, "github.com/spillway/spillway/runtime/serve/testdata/server")
	if err := d.Load(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.RemoveImage(context.WithoutCancel(t.Context()), image); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t)
	cfg := w.config()
	cfg.Driver, cfg.Entry = d, entrytest.Program(t)
	cfg.Capacity.Memory = 128 * functions.MiB
	labels := noneLeft(t, d, cfg.ID)
	a := w.agent(cfg)
	serving := func() (names []string) {
		all, err := d.List(t.Context(), labels)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			names = append(names, c.Labels[runtime.LabelServe])
		}
		slices.Sort(names)
		return names
	}
	for i, want := range [][]string{{"a@1"}, {"a@1", "b@1"}, {"b@1", "c@1"}} {
		name := functions.Name("abc"[i : i+1])
		out := w.do(a, w.web(a, name, image, `{}`))
		wantClass(t, out, "", "")
		if out.Warm {
			t.Errorf("the first task of %s found a container", name)
		}
		w.until(fmt.Sprint("the containers are ", want), func() bool { return slices.Equal(serving(), want) })
	}
	if out := w.do(a, w.web(a, "c", image, `{}`)); out.Failure != nil || !out.Warm {
		t.Errorf("the second task of c: %+v", out)
	}
	as := w.web(a, "c", image, `{"do":"sleep","n":600000}`)
	a.admit(as)
	w.until("the task runs", func() bool { return w.inPhase(functions.PhaseRun) })
	if err := a.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1, Why: functions.CanceledByUser}); err != nil {
		t.Fatal(err)
	}
	wantClass(t, w.fin(as), functions.CanceledByUser, functions.PhaseRun)
	w.until("its container is removed", func() bool { return slices.Equal(serving(), []string{"b@1"}) })
	a.quit()
	if left := serving(); len(left) > 0 {
		t.Errorf("the agent has left %v", left)
	}
}
