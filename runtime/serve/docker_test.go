package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker/dockertest"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

const testdata = "github.com/spillway/spillway/runtime/serve/testdata/"

// world is this machine's engine, with one test image.
type world struct {
	Starter
	image string
	names int
}

func newWorld(t testing.TB, program string) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what runs on an engine")
	}
	d := dockertest.Open(t, "")
	image, archive := runtimetest.ProgramImage(t, testdata+program)
	dockertest.Load(t, d, image, archive)
	dir := t.TempDir()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		left, err := d.List(ctx, map[string]string{"spillway.test": image})
		if err != nil || len(left) > 0 {
			t.Errorf("containers are left: %v, %v", left, err)
		}
		for _, c := range left {
			d.Remove(ctx, c.ID)
		}
		if doors, _ := os.ReadDir(dir); len(doors) > 0 {
			t.Errorf("doors are left: %v", doors)
		}
	})
	return &world{Starter: Starter{Driver: d, Program: entrytest.Program(t), Dir: dir, Launch: time.Minute}, image: image}
}

// plan is a container of the world's image.
func (w *world) plan(s functions.Spec) Plan {
	s.Name, s.Image = "server", w.image
	s = s.WithDefaults()
	s.Limits.Memory = 64 * functions.MiB
	f := functions.Function{Spec: s, Version: 3}
	env := map[string]string{}
	if s.Contract == functions.LambdaContract {
		env = LambdaEnv(f, s, "instance")
	} else {
		env = HTTPEnv(f, s)
	}
	for k, v := range s.Env {
		env[k] = v
	}
	w.names++
	c := runtime.Spec{
		Name: fmt.Sprintf("spillway-test-serve-%d-%d", os.Getpid(), time.Now().UnixNano()), Image: w.image, User: "65532:65532",
		Memory: s.Limits.Memory, Labels: map[string]string{"spillway.test": w.image},
	}
	for k, v := range env {
		c.Env = append(c.Env, k+"="+v)
	}
	return Plan{Function: f, Spec: s, Container: c}
}

// start starts an instance that ends with the test.
func (w *world) start(t testing.TB, p Plan) *Instance {
	t.Helper()
	said := new(runtimetest.Pane)
	i, err := w.Start(t.Context(), p, "first", Words{said, said})
	if err != nil {
		t.Fatalf("start: %v\n%s", err, said)
	}
	t.Cleanup(func() {
		if err := i.Kill(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return i
}

func TestDockerHTTP(t *testing.T) {
	w := newWorld(t, "server")
	for _, health := range []string{"", "/health"} {
		i := w.start(t, w.plan(functions.Spec{Contract: functions.HTTPContract, HTTP: &functions.HTTPSpec{Port: 9000, Health: health}}))
		for n := 1; n <= 20; n++ {
			said := new(runtimetest.Pane)
			res, err := i.Invoke(t.Context(), request(`{"say":"hello"}`), Words{Stdout: said})
			var got struct {
				Served, UID int
				Task        string
			}
			if err != nil || json.Unmarshal(res.Body, &got) != nil || got.Served != n || got.Task != "0190-task" || got.UID != 65532 {
				t.Fatalf("invocation %d: %s, %v", n, res.Body, err)
			}
			if said.String() != "hello\n" {
				t.Errorf("invocation %d said %q", n, said)
			}
		}
		_, err := i.Invoke(t.Context(), request(`{"do":"status","n":503}`), Words{})
		if f := faultIn(t, err); f.Class != functions.ExitError || f.Type != "Http.503" {
			t.Errorf("got %+v", f)
		}
	}
}

func TestDockerHTTPDies(t *testing.T) {
	w := newWorld(t, "server")
	for do, want := range map[string]struct {
		class functions.Class
		code  int
	}{
		`{"do":"kill"}`:         {functions.Crashed, 137},
		`{"do":"exit"}`:         {functions.Crashed, 0},
		`{"do":"exit","n":3}`:   {functions.ExitError, 3},
		`{"do":"exit","n":64}`:  {functions.Permanent, 64},
		`{"do":"eat"}`:          {functions.OutOfMemory, 137},
		`{"do":"exit","n":127}`: {functions.BadEntry, 127},
	} {
		t.Run(do, func(t *testing.T) {
			i := w.start(t, w.plan(functions.Spec{Contract: functions.HTTPContract}))
			_, err := i.Invoke(t.Context(), request(do), Words{})
			f := faultIn(t, err)
			if f.Class != want.class || f.ExitCode != want.code || !f.Delivered {
				t.Errorf("got %+v, want %+v", f, want)
			}
			if MayReuse(Limits{}, 1, 0, &f.Failure) || !i.Ended() {
				t.Errorf("the container would be used again; ended: %v", i.Ended())
			}
			_, err = i.Invoke(t.Context(), request("{}"), Words{})
			if f := faultIn(t, err); f.Class != want.class || f.Delivered {
				t.Errorf("the next one: %+v", f)
			}
		})
	}
}

func TestDockerStartFails(t *testing.T) {
	server, lambda := newWorld(t, "server"), newWorld(t, "lambda")
	for name, c := range map[string]struct {
		w     *world
		spec  functions.Spec
		init  time.Duration
		class functions.Class
		words string
	}{
		"no such program":  {server, functions.Spec{Contract: functions.HTTPContract, Entrypoint: []string{"/none"}}, 0, functions.BadEntry, "/none"},
		"another port":     {server, functions.Spec{Contract: functions.HTTPContract, HTTP: &functions.HTTPSpec{Health: "/none"}}, 3 * time.Second, functions.BadEntry, "GET /none answers"},
		"exits":            {lambda, functions.Spec{Contract: functions.LambdaContract, Env: map[string]string{"START": "exit"}}, 0, functions.ExitError, "no model at /models"},
		"never asks":       {lambda, functions.Spec{Contract: functions.LambdaContract, Env: map[string]string{"START": "slow"}}, 500 * time.Millisecond, functions.BadEntry, "did not ask"},
		"not a lambda":     {server, functions.Spec{Contract: functions.LambdaContract}, 0, functions.ExitError, "PORT is"},
		"not a web server": {lambda, functions.Spec{Contract: functions.HTTPContract}, 0, functions.ExitError, "AWS_LAMBDA_RUNTIME_API"},
	} {
		t.Run(name, func(t *testing.T) {
			starter := c.w.Starter
			starter.Init = c.init
			_, err := starter.Start(t.Context(), c.w.plan(c.spec), "first", Words{})
			if f := faultIn(t, err); f.Class != c.class || f.Delivered || !strings.Contains(f.Message, c.words) {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestDockerLambda(t *testing.T) {
	w := newWorld(t, "lambda")
	i := w.start(t, w.plan(functions.Spec{Contract: functions.LambdaContract}))
	for n := 1; n <= 20; n++ {
		said := new(runtimetest.Pane)
		r := request(`{}`)
		r.Task = functions.TaskID(fmt.Sprint("task-", n))
		res, err := i.Invoke(t.Context(), r, Words{Stdout: said})
		var got struct {
			Served, UID            int
			Request, ARN, Function string
			Deadline               int64 `json:"deadline_ms"`
		}
		if err != nil || json.Unmarshal(res.Body, &got) != nil || got.Served != n || got.Request != string(r.Task) || got.UID != 65532 ||
			got.ARN != "arn:aws:lambda:us-east-1:000000000000:function:server:3" || got.Function != "server" || time.Until(time.UnixMilli(got.Deadline)) > patience {
			t.Fatalf("invocation %d: %s, %v", n, res.Body, err)
		}
		if want := "serving " + string(r.Task) + "\n"; said.String() != want {
			t.Errorf("invocation %d said %q, want %q", n, said, want)
		}
	}
	_, err := i.Invoke(t.Context(), request(`{"do":"fail"}`), Words{})
	if f := faultIn(t, err); f.Class != functions.ExitError || f.Type != "unsuitable" || f.Message != "this picture is not one" || f.ExitCode != 0 {
		t.Errorf("got %+v", f)
	}
	r := request(`{"do":"sleep","n":60000}`)
	r.Timeout = 100 * time.Millisecond
	if _, err = i.Invoke(t.Context(), r, Words{}); faultIn(t, err).Class != functions.TimedOutRun {
		t.Errorf("got %v", err)
	}
}

func TestDockerLambdaDies(t *testing.T) {
	w := newWorld(t, "lambda")
	for do, want := range map[string]struct {
		class functions.Class
		kind  string
		code  int
	}{
		`{"do":"panic"}`:           {functions.ExitError, "string", 0},
		`{"do":"exit","n":3}`:      {functions.ExitError, "", 3},
		`{"do":"pad","n":6300000}`: {functions.BadOutput, "Function.ResponseSizeTooLarge", 0},
		`{"do":"exit"}`:            {functions.Crashed, "", 0},
	} {
		t.Run(do, func(t *testing.T) {
			i := w.start(t, w.plan(functions.Spec{Contract: functions.LambdaContract}))
			_, err := i.Invoke(t.Context(), request(do), Words{})
			f := faultIn(t, err)
			if f.Class != want.class || f.Type != want.kind || f.ExitCode != want.code || !f.Delivered {
				t.Errorf("got %+v, want %+v", f, want)
			}
			// Whatever came of it, the program has ended or ends now; a task that would
			// meet it has not been delivered.
			_, err = i.Invoke(t.Context(), request("{}"), Words{})
			if f := faultIn(t, err); f.Delivered {
				t.Errorf("the next one: %+v", f)
			}
		})
	}
}

// Tasks that come together share a container that takes several at once, and
// each has its own answer.
func TestDockerSeveralAtOnce(t *testing.T) {
	w := newWorld(t, "server")
	k := NewKeeper(w.Starter, slog.New(slog.DiscardHandler))
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); k.Run(ctx) }()
	defer func() { end(); <-ended }()

	const n = 4
	p := w.plan(functions.Spec{Contract: functions.HTTPContract, HTTP: &functions.HTTPSpec{Concurrency: n}})
	var group sync.WaitGroup
	var mu sync.Mutex
	got := map[*Instance]int{}
	for task := range n {
		group.Go(func() {
			r := request(`{"do":"sleep","n":100}`)
			r.Task = functions.TaskID(fmt.Sprint("task-", task))
			i := k.Take(t.Context(), web)
			if i == nil {
				var err error
				if i, err = k.Start(t.Context(), p, web, r.Task, Words{}); err != nil {
					t.Error(err)
					return
				}
			}
			mu.Lock()
			got[i]++
			mu.Unlock()
			res, err := i.Invoke(t.Context(), r, Words{})
			if err != nil || !strings.Contains(string(res.Body), string(r.Task)) {
				t.Errorf("%s: %s, %v", r.Task, res.Body, err)
			}
			k.Done(i, nil)
		})
		for k.held() == 0 { // the first one starts before the others come
			time.Sleep(time.Millisecond)
		}
	}
	group.Wait()
	if len(got) != 1 {
		t.Errorf("%d tasks took %d containers", n, len(got))
	}
}

func (k *Keeper) held() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.all) + len(k.starting)
}
