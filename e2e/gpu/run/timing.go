package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// launchTimes times a program that ends at once.
func (j *job) launchTimes(ctx context.Context, s *server) error {
	for _, kind := range []struct {
		name, function string
		device         functions.Policy
		warm           bool
	}{
		{"GPU, cold", "cold", functions.Required, false},
		{"CPU, cold", "cold", functions.Never, false},
		{"CPU, warm", "warm", functions.Never, true},
	} {
		var launch, whole []float64
		for tries := 0; len(whole) < j.launches; tries++ {
			task, err := s.call(ctx, kind.function, kind.device, nil)
			if err != nil {
				return err
			}
			if task.Status != string(functions.Succeeded) {
				return fmt.Errorf("launch times, %s: %s", kind.name, story(task))
			}
			last := task.Attempts[len(task.Attempts)-1]
			if kind.warm != last.Warm {
				if tries > 20*j.launches {
					return fmt.Errorf("launch times, %s: of %d tasks only %d ran so", kind.name, tries, len(whole))
				}
				time.Sleep(100 * time.Millisecond) // until the next container is warm
				continue
			}
			launch = append(launch, phase(last, functions.PhaseLaunch))
			whole = append(whole, float64(task.FinishedAt.Sub(task.CreatedAt).Microseconds())/1000)
		}
		j.report.launches = append(j.report.launches, launchRow{s.runtime, kind.name, measure.Summarize(launch), measure.Summarize(whole)})
	}
	return nil
}

// phase is how long a phase of an attempt took, in milliseconds.
func phase(a functions.Attempt, want functions.Phase) float64 {
	total := 0.0
	for _, p := range a.Phases {
		if p.Phase == want {
			total += p.MS
		}
	}
	return total
}

// heard is what speech says of a run of the model.
type heard struct {
	Name            string
	Load            float64 `json:"load_s"`
	Hear            float64 `json:"hear_s"`
	Encode          float64 `json:"encode_s"`
	Decode          float64 `json:"decode_s"`
	Windows, Tokens int
	Level           float64
	run             float64 // seconds of the attempt's run, as Spillway saw it
}

// How often a length is measured: the middle one of several counts, and what
// takes long is measured less often.
const (
	repeats = 3
	long    = time.Minute
)

// A listener runs the model once on a device: on a GPU when it is required, else
// on the CPU.
type listener func(device functions.Policy) (heard, error)

// measure runs the model in containers.
func (j *job) measure(ctx context.Context, s *server) error {
	return j.rows(ctx, func(model string, seconds float64) (listener, error) {
		name := fmt.Sprintf("hear-%s-%d", model, int(seconds))
		err := s.deploy(ctx, name, speech, fmt.Sprintf("transcribe %s '%g'", model, seconds), "timeout: 40m",
			fmt.Sprintf("limits: {memory: %s, cpus: %d, pids: 1024}", memoryOf(model), cores()))
		return func(device functions.Policy) (heard, error) {
			var h heard
			task, err := s.call(ctx, name, device, &h)
			if err != nil {
				return heard{}, err
			}
			if task.Status != string(functions.Succeeded) {
				return heard{}, fmt.Errorf("%s: %s", name, story(task))
			}
			h.run = runSeconds(task)
			return h, nil
		}, err
	})
}

// rows measures each model over each length of sound, on both devices.
func (j *job) rows(ctx context.Context, prepare func(model string, seconds float64) (listener, error)) error {
	for _, model := range j.models {
		for _, seconds := range j.seconds {
			listen, err := prepare(model, seconds)
			if err != nil {
				return err
			}
			row := modelRow{model: model, seconds: seconds}
			if row.gpu, row.gpuRuns, err = middle(listen, functions.Required); err != nil {
				return err
			}
			if row.cpu, row.cpuRuns, err = middle(listen, functions.Never); err != nil {
				return err
			}
			j.report.models = append(j.report.models, row)
			j.report.save()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// middle is the middle one of some runs, and how many there were.
func middle(listen listener, device functions.Policy) (heard, int, error) {
	var all []heard
	for start := time.Now(); len(all) < repeats && (len(all) == 0 || time.Since(start) < long); {
		h, err := listen(device)
		if err != nil {
			return heard{}, 0, err
		}
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b heard) int { return cmp.Compare(a.run, b.run) })
	return all[len(all)/2], len(all), nil
}

func runSeconds(t harness.Task) float64 {
	return phase(t.Attempts[len(t.Attempts)-1], functions.PhaseRun) / 1000
}

// memoryOf is the limit of a container, of its weights, what CUDA takes of the
// host's memory, and room.
func memoryOf(model string) string {
	if model == "toy" {
		return "512MiB"
	}
	return "6GiB"
}
