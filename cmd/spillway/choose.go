package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/cmd/spillway/cli"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// runtimeAuto leaves the choice of what runs containers to the machine.
const runtimeAuto = "auto"

// candidate is one kind of runtime that a machine may have.
type candidate struct {
	name string
	// what says in a few words what must hold, and fix what to do when it does not.
	what, fix string
	// open returns a driver and what lets go of it. Whether it can be used is
	// for its Probe to say.
	open func(ctx context.Context) (runtime.Driver, func(), error)
}

// refusal is why a candidate was not taken.
type refusal struct {
	name string
	err  error
	fix  string
}

func (r refusal) String() string { return r.name + ": " + r.err.Error() }

// choice is the runtime that a node uses, and why.
type choice struct {
	driver  runtime.Driver
	release func()
	reason  string // for people
	refused []refusal
}

// testLimit bounds the self-test of one candidate.
const testLimit = 20 * time.Second

// test opens a candidate and asks whether it can be used; found is what it says
// of itself. Nothing stays open when it cannot.
func (c candidate) test(ctx context.Context) (d runtime.Driver, release func(), found string, err error) {
	ctx, cancel := context.WithTimeout(ctx, testLimit)
	defer cancel()
	d, release, err = c.open(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	if found, err = d.Probe(ctx); err != nil {
		release()
		return nil, nil, "", err
	}
	return d, release, found, nil
}

// chooseRuntime takes the first candidate that passes its own test. When none
// does, the choice has no driver, and its refusals say why.
func chooseRuntime(ctx context.Context, all []candidate) choice {
	var refused []refusal
	for _, c := range all {
		d, release, found, err := c.test(ctx)
		if err != nil {
			refused = append(refused, refusal{c.name, err, remedy(err, c.fix)})
			continue
		}
		reason := "the first of " + names(all) + " that works here: " + found
		if len(refused) > 0 {
			reason += " (" + sayAll(refused) + ")"
		}
		return choice{driver: d, release: release, reason: reason, refused: refused}
	}
	return choice{refused: refused, reason: "none of " + names(all) + " works here"}
}

// remedy is what to do about an error: what it says itself, or else the usual.
func remedy(err error, usual string) string {
	if e, ok := errors.AsType[*functions.Error](err); ok && e.Hint != "" {
		return e.Hint
	}
	return usual
}

func names(all []candidate) string {
	var list []string
	for _, c := range all {
		list = append(list, c.name)
	}
	return strings.Join(list, ", ")
}

func sayAll(refused []refusal) string {
	var list []string
	for _, r := range refused {
		list = append(list, r.String())
	}
	return strings.Join(list, "; ")
}

// openDriver returns what runs containers on this machine. Where the choice is
// the machine's and nothing works, it is the first candidate all the same: the
// node says that it is not ready, and becomes so when the engine comes.
func openDriver(ctx context.Context, cfg Config, log *slog.Logger) (choice, error) {
	all := candidates(cfg, log)
	if cfg.Node.Runtime == runtimeAuto {
		all = runners(cfg, log)
		made := chooseRuntime(ctx, all)
		for _, r := range made.refused {
			level := slog.LevelInfo // another does
			if made.driver == nil {
				level = slog.LevelWarn
			}
			log.Log(ctx, level, "runtime refused", "runtime", r.name, "err", r.err, "fix", r.fix)
		}
		if made.driver != nil {
			log.Info("runtime chosen", "runtime", made.driver.Name(), "why", made.reason)
			return made, nil
		}
		if err := context.Cause(ctx); err != nil {
			return choice{}, err
		}
		d, release, err := all[0].open(ctx)
		if err != nil {
			return choice{}, err
		}
		made.driver, made.release = d, release
		made.reason += "; " + all[0].name + " is waited for"
		log.Warn("runtime chosen", "runtime", all[0].name, "why", made.reason)
		return made, nil
	}
	i := slices.IndexFunc(all, func(c candidate) bool { return c.name == cfg.Node.Runtime })
	d, release, err := all[i].open(ctx) // Validate knows the names
	if err != nil {
		return choice{}, fmt.Errorf("set up the %s runtime: %w", all[i].name, err)
	}
	const reason = "asked for by --runtime"
	log.Info("runtime chosen", "runtime", d.Name(), "why", reason)
	return choice{driver: d, release: release, reason: reason}, nil
}

// runtimeChecks are what doctor says of each runtime, and of what the machine
// would choose. They work on a folder of their own, beside a node that runs.
func runtimeChecks(cfg Config) []cli.Check {
	tried := func(run func(all []candidate) (string, error)) (string, error) {
		dir, err := os.MkdirTemp("", "spillway-doctor-")
		if err != nil {
			return "", fmt.Errorf("make a folder to try in: %w", err)
		}
		defer os.RemoveAll(dir)
		own := cfg
		own.Data = dir
		return run(runners(own, slog.New(slog.DiscardHandler)))
	}
	checks := []cli.Check{{
		Name: "a runtime works",
		Fix:  "install Docker Engine, containerd, or Debian's crun or runc package",
		Run: func(ctx context.Context) (string, error) {
			return tried(func(all []candidate) (string, error) {
				made := chooseRuntime(ctx, all)
				if made.driver == nil {
					return "", errors.New(made.reason + ": " + sayAll(made.refused))
				}
				made.release()
				return "auto takes " + made.driver.Name() + ", " + made.reason, nil
			})
		},
	}}
	for i, c := range runners(cfg, slog.New(slog.DiscardHandler)) {
		checks = append(checks, cli.Check{
			Name: c.what, Fix: c.fix, Driver: c.name,
			Run: func(ctx context.Context) (string, error) {
				return tried(func(all []candidate) (string, error) {
					_, release, found, err := all[i].test(ctx)
					if err == nil {
						release()
					}
					return found, err
				})
			},
		})
	}
	return checks
}

// runners are the candidates that run containers.
func runners(cfg Config, log *slog.Logger) []candidate {
	return slices.DeleteFunc(candidates(cfg, log), func(c candidate) bool { return c.name == runtimeSimulated })
}

// validRuntime says which names --runtime takes.
func validRuntime(name string) error {
	known := []string{runtimeAuto}
	for _, c := range candidates(Default(), slog.New(slog.DiscardHandler)) {
		known = append(known, c.name)
	}
	if slices.Contains(known, name) {
		return nil
	}
	return functions.Invalid("bad_runtime", "%q is none of %s", name, strings.Join(known, ", "))
}
