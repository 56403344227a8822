package task_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions/catalog/task"
)

// room is what the platform prepares for one attempt.
type room struct {
	dir string
	env map[string]string
}

func newRoom(t *testing.T, event string) room {
	t.Helper()
	dir := t.TempDir()
	r := room{dir: dir, env: map[string]string{
		"TASK_EVENT_FILE": filepath.Join(dir, "event.json"), "TASK_RESULT_FILE": filepath.Join(dir, "result.json"),
		"TASK_INPUT_DIR": filepath.Join(dir, "in"), "TASK_OUTPUT_DIR": dir, "TASK_PROGRESS_FILE": filepath.Join(dir, "progress"),
	}}
	if err := os.WriteFile(r.env["TASK_EVENT_FILE"], []byte(event), 0o644); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r room) getenv(k string) string { return r.env[k] }

func (r room) run(f func(*task.Task) (any, error)) (code task.Code, result, stderr string) {
	var out, errs bytes.Buffer
	code = task.Run(r.getenv, strings.NewReader("never read"), &out, &errs, f)
	body, _ := os.ReadFile(r.env["TASK_RESULT_FILE"])
	return code, string(body) + out.String(), errs.String()
}

func TestTaskIsReadFromTheEventFile(t *testing.T) {
	r := newRoom(t, `{"task":"id","function":"f","attempt":3,"event":{"a":1},"inputs":[{"name":"x","path":"/p/x","size":5},{"name":"y"}],"params":{"b":2},"unknown":0}`)
	r.env["TASK_DEVICE"] = "gpu"
	got, err := task.Load(r.getenv, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != "id" || got.Function != "f" || got.Attempt != 3 || got.Device != task.GPU || string(got.Event) != `{"a":1}` {
		t.Errorf("got %+v", got)
	}
	want := []task.Input{{Name: "x", Path: "/p/x", Size: 5}, {Name: "y", Path: filepath.Join(r.dir, "in", "y")}}
	if d := cmp.Diff(want, got.Inputs); d != "" {
		t.Error(d)
	}
	var o struct{ A, B int }
	if err := got.Args(&o); err != nil || o.A != 1 || o.B != 2 {
		t.Errorf("options %+v (%v), want both parts", o, err)
	}
}

func TestInputsAreFoundWhenTheCallNamesNone(t *testing.T) {
	r := newRoom(t, `{"event":null}`)
	in := r.env["TASK_INPUT_DIR"]
	if err := os.MkdirAll(filepath.Join(in, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(in, "a.txt"), []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := task.Load(r.getenv, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]task.Input{{Name: "a.txt", Path: filepath.Join(in, "a.txt"), Size: 3}}, got.Inputs); d != "" {
		t.Error(d)
	}
}

func TestByHandTheEventComesOnStdin(t *testing.T) {
	none := func(string) string { return "" }
	var out bytes.Buffer
	code := task.Run(none, strings.NewReader(`{"n":1}`), &out, &out, func(t *task.Task) (any, error) { return t.Event, nil })
	if code != task.ExitOK || out.String() != "{\"n\":1}\n" {
		t.Errorf("code %d, %q", code, out.String())
	}
}

func TestExitCodesAndErrorDocuments(t *testing.T) {
	for _, tc := range []struct {
		name      string
		event     string
		err       error
		code      task.Code
		kind      string
		retryable bool
	}{
		{"a wrong call", `{}`, task.Usage("BadSize", "too large"), task.ExitUsage, "BadSize", false},
		{"a wrong input", `{}`, task.Invalid("NotMedia", "no"), task.ExitData, "NotMedia", false},
		{"a missing input", `{}`, task.NoInput("NoInput", "none"), task.ExitNoInput, "NoInput", false},
		{"an unusable device", `{}`, task.NoDevice("NoGPU", "none"), task.ExitDevice, "NoGPU", true},
		{"a fault that was wrapped", `{}`, fmt.Errorf("look: %w", task.Invalid("X", "y")), task.ExitData, "X", false},
		{"any other error", `{}`, errors.New("boom"), task.ExitError, "Error", true},
		{"an event file that is no JSON", `{`, nil, task.ExitData, "BadEvent", false},
		{"options of the wrong type", `{"event":"text"}`, nil, task.ExitUsage, "BadEvent", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, result, stderr := newRoom(t, tc.event).run(func(t *task.Task) (any, error) {
				if tc.err != nil {
					return nil, tc.err
				}
				var o struct{ A int }
				return nil, t.Args(&o)
			})
			if code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			var doc struct {
				Error struct {
					Type, Message string
					Retryable     bool
				}
			}
			if err := json.Unmarshal([]byte(result), &doc); err != nil {
				t.Fatalf("result %q: %v", result, err)
			}
			if doc.Error.Type != tc.kind || doc.Error.Retryable != tc.retryable || doc.Error.Message == "" || !strings.Contains(stderr, doc.Error.Message) {
				t.Errorf("document %+v, log %q", doc.Error, stderr)
			}
		})
	}
}

func TestResultThatCannotBeWrittenFails(t *testing.T) {
	r := newRoom(t, `{}`)
	r.env["TASK_RESULT_FILE"] = filepath.Join(r.dir, "gone", "result.json")
	if code, _, stderr := r.run(func(*task.Task) (any, error) { return 1, nil }); code != task.ExitError || !strings.Contains(stderr, "write the result") {
		t.Errorf("exit %d, log %q", code, stderr)
	}
	if code, _, _ := newRoom(t, `{}`).run(func(*task.Task) (any, error) { return func() {}, nil }); code != task.ExitError {
		t.Errorf("a result that is no JSON: exit %d", code)
	}
}

func TestProgressAppendsLines(t *testing.T) {
	r := newRoom(t, `{}`)
	r.run(func(t *task.Task) (any, error) {
		t.Progress(0.5, "decode")
		t.Progress(1, "done")
		return nil, nil
	})
	body, err := os.ReadFile(r.env["TASK_PROGRESS_FILE"])
	if err != nil || string(body) != "0.500 decode\n1.000 done\n" {
		t.Errorf("%q (%v)", body, err)
	}
}

func TestNoInputIsPermanent(t *testing.T) {
	code, _, _ := newRoom(t, `{}`).run(func(t *task.Task) (any, error) { return t.Input() })
	if code != task.ExitNoInput {
		t.Errorf("exit %d, want %d", code, task.ExitNoInput)
	}
}
