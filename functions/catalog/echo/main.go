// Command echo is the smallest function: it answers with the JSON it was given.
// Its event may ask it to be slow, loud or to fail, which is how the platform
// itself is tried out.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spillway/spillway/functions/catalog/task"
)

func main() { task.Main(run) }

// knobs are the fields of the event that change what echo does. All are optional.
type knobs struct {
	SleepMS  int `json:"sleep_ms"`  // sleep this long first
	LogLines int `json:"log_lines"` // write this many lines to the log
	Exit     int `json:"exit"`      // exit with this code instead of answering
}

// answer is the event and where it was answered.
type answer struct {
	Echo    json.RawMessage `json:"echo"`
	Device  task.Device     `json:"device"`
	Attempt int             `json:"attempt,omitempty"`
	Inputs  []string        `json:"inputs,omitempty"`
}

func run(t *task.Task) (any, error) {
	a := answer{Echo: t.Event, Device: t.Device, Attempt: t.Attempt}
	if len(a.Echo) == 0 {
		a.Echo = json.RawMessage("null")
	}
	if !json.Valid(a.Echo) {
		return nil, task.Usage("BadEvent", "the event is not JSON")
	}
	var k knobs
	if a.Echo[0] == '{' { // any other JSON is echoed and has no knobs
		if err := json.Unmarshal(a.Echo, &k); err != nil {
			return nil, task.Usage("BadEvent", "the event cannot be used: %v", err)
		}
	}
	for _, in := range t.Inputs {
		a.Inputs = append(a.Inputs, in.Name)
	}
	for i := range k.LogLines {
		fmt.Fprintf(os.Stderr, "line %d of %d\n", i+1, k.LogLines)
	}
	time.Sleep(time.Duration(k.SleepMS) * time.Millisecond)
	if k.Exit != 0 {
		return nil, &task.Fault{Code: task.Code(k.Exit), Type: "AskedToFail", Message: fmt.Sprintf("the event asked for exit code %d", k.Exit)}
	}
	return a, nil
}
