// Package preflight proves step by step that a machine can run containers on its
// GPUs: from the kernel module to a container that sees a device. Each step finds
// out by itself and names the one thing that mends it, so that whoever sets a
// machine up goes on at the first step that fails. It changes nothing on the
// machine but for the container of the last step, which it removes.
//
// A step that could only repeat what one before it said is skipped, with the
// reason; one that finds something which stops no task, yet, is a warning.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cdi"
	"github.com/spillway/spillway/runtime/docker"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// Skipped and Warning are the classes of a step's errors that are no failure.
var (
	Skipped = errors.New("skipped")
	Warning = errors.New("warning")
)

// Engine is the container engine of the machine; *docker.Driver is one.
type Engine interface {
	runtime.Driver
	GPUSupport(ctx context.Context) (docker.GPUSupport, error)
}

// Machine is what the steps look at.
type Machine struct {
	Files  fs.FS                                                                     // "/"
	Look   func(program string) (path string, err error)                             // as exec.LookPath
	Output func(ctx context.Context, program string, args ...string) (string, error) // of a program that ends
	Read   func(ctx context.Context) (probe.Reading, error)                          // the GPUs, once
	CDI    func() ([]cdi.Found, error)
	Engine Engine
	Image  string // that the last step runs; empty = one that is present
}

// Step is one thing that must hold. Run says what it found. Its error has a hint
// that says what to do.
type Step struct {
	Name  string
	Limit time.Duration // 0 = the usual one of a check
	Run   func(ctx context.Context) (found string, err error)
}

// The names of the steps, which the guide and people go by.
const (
	StepDriver      = "NVIDIA driver"
	StepReading     = "GPUs can be read"
	StepPersistence = "driver stays awake"
	StepToolkit     = "container toolkit"
	StepEngine      = "Docker answers"
	StepHandsOut    = "Docker hands out GPUs"
	StepReload      = "GPUs outlast daemon-reload"
	StepCDI         = "CDI specification"
	StepContainer   = "a container gets a GPU"
)

// containerLimit is over nvidia-container-cli's own limits of 10 s, and leaves
// time for the container to be made and removed.
const containerLimit = 60 * time.Second

// Steps returns the steps, to be run one after the other: later ones know what
// earlier ones have found.
func Steps(m Machine) []Step {
	c := &checks{Machine: m, wsl: isWSL(m.Files)}
	return []Step{
		{Name: StepDriver, Run: c.driver},
		{Name: StepReading, Run: c.read, Limit: 20 * time.Second},
		{Name: StepPersistence, Run: c.persistence},
		{Name: StepToolkit, Run: c.toolkit},
		{Name: StepEngine, Run: c.engine},
		{Name: StepHandsOut, Run: c.handsOut},
		{Name: StepReload, Run: c.reload},
		{Name: StepCDI, Run: c.specification},
		{Name: StepContainer, Run: c.container, Limit: containerLimit},
	}
}

// checks are the steps, and what they have found so far.
type checks struct {
	Machine
	wsl bool

	reading probe.Reading // of Status OK once the GPUs could be read
	hook    bool          // the toolkit's part that --gpus needs is in PATH
	up      bool          // the engine answers
	support docker.GPUSupport
	viaCDI  bool // the engine has no other way to give GPUs to containers, or uses this one
}

// fail is a failed step: what was found, and what to do.
func fail(fix, format string, args ...any) error {
	return functions.Unavailable("preflight", format, args...).WithHint("%s", fix)
}

func skip(format string, args ...any) error { return &verdict{Skipped, fmt.Errorf(format, args...)} }

func warn(fix, format string, args ...any) error {
	return &verdict{Warning, fail(fix, format, args...)}
}

// verdict adds a class to an error and nothing to its words.
type verdict struct{ class, err error }

func (v *verdict) Error() string   { return v.err.Error() }
func (v *verdict) Unwrap() []error { return []error{v.class, v.err} }

func (c *checks) exists(path string) bool {
	_, err := fs.Stat(c.Files, path)
	return err == nil
}

func (c *checks) has(program string) bool {
	_, err := c.Look(program)
	return err == nil
}
