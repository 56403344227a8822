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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan probe.Reading, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- probe.New(probe.Config{Program: program, SMI: smi}).Run(ctx, func(r probe.Report) {
			if r.Reading == nil {
				return
			}
			select {
			case first <- *r.Reading:
				cancel() // one is enough
			default:
			}
		})
	}()
	err = <-ended
	select {
	case r := <-first:
		return r, nil
	default:
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	return probe.Reading{}, err
}
