package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// simulated is the runtime for rehearsals and benchmarks: every image is there,
// and its containers are timers in this process. A GPU launch fails as it does
// on a host without NVIDIA software.
type simulated struct{ *runtimetest.Fake }

func newSimulated() simulated {
	s := simulated{runtimetest.NewFake()}
	s.OnLaunch(func(_ context.Context, spec runtime.Spec) error {
		if len(spec.GPUs) > 0 {
			return functions.Unavailable("no_gpu", `could not select device driver "" with capabilities: [[gpu compute utility video]]`)
		}
		return nil
	})
	return s
}

// Name implements runtime.Driver.
func (s simulated) Name() string { return "simulated" }

// Pull makes every image present.
func (s simulated) Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	s.Add(image, simulate)
	return s.Fake.Pull(ctx, image, progress)
}

// simulate does what the event asks for: it says lines, sleeps 20 ms unless told
// otherwise, writes an output file, and exits. Its result is the event,
// unless it is told to leave none.
func simulate(ctx context.Context, p *runtimetest.Process) int {
	event := json.NewDecoder(p.Stdin)
	var raw json.RawMessage
	if err := event.Decode(&raw); err != nil {
		fmt.Fprintln(p.Stderr, "read the event:", err)
		return 65
	}
	knobs := struct {
		Say     []string `json:"say"`
		SleepMS int      `json:"sleep_ms"`
		Output  string   `json:"output"` // name of a file that holds its own name
		Mute    bool     `json:"mute"`   // no result
		Exit    int      `json:"exit"`
	}{SleepMS: 20}
	_ = json.Unmarshal(raw, &knobs) // an event that is no object has no knobs
	for _, line := range knobs.Say {
		fmt.Fprintln(p.Stdout, line)
	}
	timer := time.NewTimer(time.Duration(knobs.SleepMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return 143
	}
	files := map[string][]byte{}
	if !knobs.Mute {
		files["/task/result.json"] = raw
	}
	if knobs.Output != "" {
		files["/task/out/"+knobs.Output] = []byte(knobs.Output)
	}
	for name, data := range files {
		path, err := p.Path(name)
		if err == nil {
			err = os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			fmt.Fprintln(p.Stderr, "write the result:", err)
			return 73
		}
	}
	return knobs.Exit
}
