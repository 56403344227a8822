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
func (s simulated) Pull(ctx context.Context, image string) error {
	s.Image(image, simulate)
	return s.Fake.Pull(ctx, image)
}

// simulate sleeps for the event's sleep_ms, 20 by default, and gives the event
// back as its result.
func simulate(ctx context.Context, p *runtimetest.Process) int {
	event := json.NewDecoder(p.Stdin)
	var raw json.RawMessage
	if err := event.Decode(&raw); err != nil {
		fmt.Fprintln(p.Stderr, "read the event:", err)
		return 65
	}
	knobs := struct {
		SleepMS int `json:"sleep_ms"`
		Exit    int `json:"exit"`
	}{SleepMS: 20}
	_ = json.Unmarshal(raw, &knobs) // an event that is no object has no knobs
	timer := time.NewTimer(time.Duration(knobs.SleepMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return 143
	}
	path, err := p.Path("/task/result.json")
	if err == nil {
		err = os.WriteFile(path, raw, 0o644)
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, "write the result:", err)
		return 73
	}
	return knobs.Exit
}
