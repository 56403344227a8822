package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spillway/spillway/cmd/spillway/cli"
	"github.com/spillway/spillway/runtime/cdi"
	"github.com/spillway/spillway/runtime/gpu/preflight"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// gpuChecks are what doctor --gpu looks at on this machine.
func gpuChecks(getenv func(string) string) func(image string) ([]cli.Check, func(), error) {
	return func(image string) ([]cli.Check, func(), error) {
		engine, err := newDocker(hostConfig(getenv), nil)
		if err != nil {
			return nil, nil, err
		}
		steps := preflight.Steps(preflight.Machine{
			Files: os.DirFS("/"), Look: exec.LookPath, Output: output, Read: readGPUs,
			CDI:    func() ([]cdi.Found, error) { return cdi.Find(cdi.DefaultDirs()) },
			Engine: engine, Image: image,
		})
		checks := make([]cli.Check, len(steps))
		for i, s := range steps {
			checks[i] = cli.Check{Name: s.Name, Limit: s.Limit, Run: func(ctx context.Context) (string, error) {
				found, err := s.Run(ctx)
				switch {
				case errors.Is(err, preflight.Skipped):
					err = cli.Skipped(err)
				case errors.Is(err, preflight.Warning):
					err = cli.Warned(err)
				}
				return found, err
			}}
		}
		return checks, func() { engine.Close() }, nil
	}
}

// output runs a program of the machine to its end.
func output(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		return string(out), fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

// readGPUs reads the GPUs of this machine once, as its node does.
func readGPUs(ctx context.Context) (probe.Reading, error) {
	self, err := os.Executable()
	if err != nil {
		return probe.Reading{}, fmt.Errorf("find this program's folder: %w", err)
	}
	program, smi := probe.Find(self)
	if program == "" && smi == "" {
		return probe.Reading{}, probe.ErrNotRunning
	}
	return firstReading(ctx, probe.Config{Program: program, SMI: smi})
}

// firstReading waits for an answer of the driver: without nvidia-persistenced it may
// be silent for some seconds first. When there is none until ctx ends, the reading
// says how far it came.
func firstReading(ctx context.Context, cfg probe.Config) (r probe.Reading, err error) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	err = probe.New(cfg).Run(ctx, func(report probe.Report) {
		if report.Reading == nil || r.Status != "" && r.Status != probe.Silent {
			return
		}
		if r = *report.Reading; r.Status != probe.Silent {
			enough()
		}
	})
	if err == nil && r.Status == "" {
		err = context.Cause(ctx)
	}
	return r, err
}
