package task

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// EventLimit is the most that is read of an event, in bytes: a synchronous call
// may carry 6 MiB, and the call's own fields come on top.
const EventLimit = 8 << 20

// Device is what the attempt was given. It is never probed for: an attempt that
// was given a GPU uses it or says that it cannot.
type Device string

const (
	CPU Device = "cpu"
	GPU Device = "gpu"
)

// Input is one file that was put into the container.
type Input struct {
	Name string `json:"name"`
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// Task is one attempt as the function sees it.
type Task struct {
	ID       string          `json:"task"`
	Function string          `json:"function"`
	Attempt  int             `json:"attempt"` // from 1
	Event    json.RawMessage `json:"event"`   // the caller's JSON; nil when there was none
	Inputs   []Input         `json:"inputs"`
	Params   json.RawMessage `json:"params"` // the caller's parameters; nil when there were none
	Device   Device          `json:"-"`
	Out      string          `json:"-"` // folder for output files

	progress string
}

// Load reads the attempt from the files and variables of the contract. getenv
// is os.Getenv outside tests; stdin is read only when no event file is named,
// and then holds the bare event.
func Load(getenv func(string) string, stdin io.Reader) (*Task, error) {
	t := &Task{
		ID: getenv("TASK_ID"), Function: getenv("TASK_FUNCTION"),
		Device: CPU, Out: getenv("TASK_OUTPUT_DIR"), progress: getenv("TASK_PROGRESS_FILE"),
	}
	if getenv("TASK_DEVICE") == string(GPU) {
		t.Device = GPU
	}
	if t.Out == "" {
		t.Out = "."
	}
	if file := getenv("TASK_EVENT_FILE"); file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("open the event: %w", err)
		}
		defer f.Close()
		if err := json.NewDecoder(io.LimitReader(f, EventLimit)).Decode(t); err != nil {
			return nil, Invalid("BadEvent", "the event file is not the JSON it should be: %v", err)
		}
	} else {
		body, err := io.ReadAll(io.LimitReader(stdin, EventLimit))
		if err != nil {
			return nil, fmt.Errorf("read the event: %w", err)
		}
		if len(body) > 0 {
			t.Event = body
		}
	}
	dir := getenv("TASK_INPUT_DIR")
	for i, in := range t.Inputs {
		if in.Path == "" {
			t.Inputs[i].Path = filepath.Join(dir, in.Name)
		}
	}
	if len(t.Inputs) > 0 || dir == "" {
		return t, nil
	}
	return t, t.listInputs(dir)
}

// listInputs finds input files by looking, for a call that does not name them.
func (t *Task) listInputs(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return fmt.Errorf("list the inputs: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		t.Inputs = append(t.Inputs, Input{Name: e.Name(), Path: filepath.Join(dir, e.Name()), Size: info.Size()})
	}
	return nil
}

// Args decodes the call's options into v: first the event, then the parameters
// over it, so that either may carry them. A field that v lacks is left alone.
func (t *Task) Args(v any) error {
	for _, part := range []struct {
		name string
		raw  json.RawMessage
	}{{"event", t.Event}, {"parameters", t.Params}} {
		if len(part.raw) == 0 || string(part.raw) == "null" {
			continue
		}
		if err := json.Unmarshal(part.raw, v); err != nil {
			return Usage("BadEvent", "the %s cannot be used: %v", part.name, err)
		}
	}
	return nil
}

// Input returns the only input, or the first of several. A call without one is
// a failure that trying again cannot help.
func (t *Task) Input() (Input, error) {
	if len(t.Inputs) == 0 {
		return Input{}, NoInput("NoInput", "no input file; upload one with the call")
	}
	return t.Inputs[0], nil
}

// OutPath is where an output file of that name belongs.
func (t *Task) OutPath(name string) string { return filepath.Join(t.Out, name) }

// Progress tells how far the attempt is, from 0 to 1, and in which stage. It is
// a courtesy: an error to write it is not worth failing for.
func (t *Task) Progress(fraction float64, stage string) {
	if t.progress == "" {
		return
	}
	f, err := os.OpenFile(t.progress, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%.3f %s\n", fraction, stage)
}
