package main

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/spillway/spillway/functions/catalog/task"
)

func TestEcho(t *testing.T) {
	for _, event := range []string{`{"hello":"world"}`, `[1,2]`, `"text"`, `null`, `7`, ``} {
		got, err := run(&task.Task{Event: json.RawMessage(event), Device: task.CPU, Attempt: 2})
		if err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		want := event
		if want == "" {
			want = "null"
		}
		if a := got.(answer); string(a.Echo) != want || a.Device != task.CPU || a.Attempt != 2 {
			t.Errorf("%s: got %+v", event, a)
		}
	}
}

func TestEchoFailsAsAsked(t *testing.T) {
	for event, want := range map[string]task.Code{
		`{"exit":75}`: task.ExitTempFail, `{"exit":79,"sleep_ms":1,"log_lines":1}`: task.ExitDevice,
		`{"exit":"x"}`: task.ExitUsage, `no json`: task.ExitUsage,
	} {
		_, err := run(&task.Task{Event: json.RawMessage(event)})
		if f, ok := errors.AsType[*task.Fault](err); !ok || f.Code != want {
			t.Errorf("%s: got %v, want exit %d", event, err, want)
		}
	}
}
