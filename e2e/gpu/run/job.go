package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// job is one run: for each runtime a server with GPUs, one whose specification
// is gone, and one whose hook fails.
type job struct {
	settings
	report  *report
	devices *devices
	engine  *engine
	assume  bool // nodes see no GPU by themselves here
}

// speech is the image of the program; hostile is another name of it, with an
// environment that asks for every GPU.
const speech = "speech"

// sharing is of functions that do not need a GPU alone. The memory is the host's:
// CUDA takes some hundred MiB of it.
const sharing = "gpu: {memory: 1GiB}\nlimits: {memory: 3GiB}"

// program runs one of the bundle's, or any other, and returns what it said.
func (j *job) program(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), j.path())
	return cmd.CombinedOutput()
}

// all does everything that containers are needed for; where the model could not
// be measured in one, it is measured outside.
func (j *job) all(ctx context.Context) error {
	err := j.contained(ctx)
	if len(j.report.models) > 0 || len(j.models) == 0 || ctx.Err() != nil {
		return err
	}
	j.report.line("The model was measured outside of containers, because it could not be in one.")
	return errors.Join(err, j.bare(ctx))
}

func (j *job) contained(ctx context.Context) error {
	var err error
	if j.devices, err = describe(ctx, j.settings); err != nil {
		return err
	}
	j.report.line("CDI describes: " + strings.Join(j.devices.names, ", "))
	for _, runtime := range j.runtimes {
		if runtime == "containerd" {
			if j.engine, err = startEngine(ctx, j.settings); err != nil {
				j.report.check(runtime, "containerd starts", false, "%v", err)
				continue // the next one needs none
			}
			defer j.engine.stop()
		}
		for _, step := range []struct {
			what  string
			first func() error
			run   func(context.Context, *server) error
		}{
			{"with its GPUs", j.devices.mend, j.healthy},
			{"without a CDI specification", j.devices.lose, func(ctx context.Context, s *server) error {
				return j.respawn(ctx, s, "a device that CDI does not describe", functions.GPUDevice, functions.GPUHost)
			}},
			{"with a hook that fails", j.devices.spoil, func(ctx context.Context, s *server) error {
				return j.respawn(ctx, s, "a CDI hook that fails", functions.GPUUnknown, functions.GPUHost)
			}},
		} {
			started, err := j.step(ctx, runtime, step.first, step.run)
			if err != nil {
				j.report.check(runtime, step.what, false, "%v", err)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !started {
				break // nor would the next one start
			}
		}
	}
	return nil
}

// step runs something on a fresh server, which has no memory of faults. The
// specification is changed when the server is up, for a node may look for one
// when it starts.
func (j *job) step(ctx context.Context, runtime string, change func() error, run func(context.Context, *server) error) (started bool, err error) {
	if err := j.devices.mend(); err != nil {
		return false, err
	}
	s, err := j.start(ctx, runtime)
	if err != nil {
		return false, err
	}
	defer s.stop()
	if err := change(); err != nil {
		return true, err
	}
	return true, run(ctx, s)
}

func (j *job) healthy(ctx context.Context, s *server) error {
	node, err := s.node(ctx, true)
	if err != nil {
		return err
	}
	j.report.slots(s, node)
	for _, f := range []struct{ name, image, command, more string }{
		{"where", speech, "where", sharing},
		{"look", "hostile", "look", ""},
		{"hog", speech, "hog", sharing},
		{"cold", speech, "nothing", sharing},
		{"warm", speech, "nothing", "warm: 2"},
	} {
		if err := s.deploy(ctx, f.name, f.image, f.command, f.more); err != nil {
			return err
		}
	}
	for _, do := range []struct {
		what string
		run  func(context.Context, *server) error
	}{{"CUDA work", j.compute}, {"a hostile task", j.hostile}, {"CUDA out of memory", j.hog}, {"launch times", j.launchTimes}} {
		if err := do.run(ctx, s); err != nil {
			j.report.check(s.runtime, do.what, false, "%v", err) // the others are worth trying
		}
	}
	if len(j.report.models) > 0 {
		return nil
	}
	return j.measure(ctx, s)
}

// place is what speech says of its device.
type place struct {
	Device, Name, UUID string
	Memory             int64   // bytes
	Error              float64 // of its arithmetic, against the CPU's
}

// closeEnough is how far the sums of another order may be apart, of values about 1.
const closeEnough = 1e-3

func (j *job) compute(ctx context.Context, s *server) error {
	var on place
	task, err := s.call(ctx, "where", functions.Required, &on)
	if err != nil {
		return err
	}
	ok := task.Status == string(functions.Succeeded) && len(task.Attempts) == 1 && task.DeviceUsed == "gpu" &&
		on.Device == "gpu" && j.devices.knows(on.UUID) && on.Error < closeEnough
	j.report.check(s.runtime, "CUDA work in a container, on the GPU of the lease", ok, "%s; in the container: %s %s, %s; its arithmetic differs from the CPU's by %.2g",
		story(task), on.Name, on.UUID, functions.Bytes(on.Memory), on.Error)
	on = place{}
	if task, err = s.call(ctx, "where", functions.Never, &on); err != nil {
		return err
	}
	j.report.check(s.runtime, "the same image on the CPU", task.Status == string(functions.Succeeded) && on.Device == "cpu", "%s; %s", story(task), on.Name)
	return nil
}

func (j *job) hostile(ctx context.Context, s *server) error {
	var saw struct {
		Devices  []string
		MadeNode bool `json:"made_a_node"`
		Library  bool
		Visible  string
	}
	task, err := s.call(ctx, "look", functions.Never, &saw)
	if err != nil {
		return err
	}
	ok := task.Status == string(functions.Succeeded) && len(saw.Devices) == 0 && !saw.MadeNode && !saw.Library && saw.Visible == "void"
	j.report.check(s.runtime, "a CPU task whose image asks for every GPU sees none", ok, "%s; devices %v, libcuda there: %t, could make a device node: %t, NVIDIA_VISIBLE_DEVICES=%s",
		story(task), saw.Devices, saw.Library, saw.MadeNode, saw.Visible)
	return nil
}

func (j *job) hog(ctx context.Context, s *server) error {
	task, err := s.call(ctx, "hog", functions.Preferred, nil)
	if err != nil {
		return err
	}
	ok := task.Status == string(functions.Succeeded) && task.DeviceUsed == "cpu" && failedAs(task, functions.GPUMemory)
	j.report.check(s.runtime, "CUDA runs out of memory, and the task ends on the CPU", ok, "%s", story(task))
	return nil
}

func (j *job) respawn(ctx context.Context, s *server, what string, classes ...functions.Class) error {
	if err := s.deploy(ctx, "cold", speech, "nothing"); err != nil {
		return err
	}
	task, err := s.call(ctx, "cold", functions.Preferred, nil)
	if err != nil {
		return err
	}
	ok := task.Status == string(functions.Succeeded) && task.DeviceUsed == "cpu" && failedAs(task, classes...)
	j.report.check(s.runtime, what+": the launch fails, and the task ends on the CPU", ok, "%s", story(task))
	return nil
}

// failedAs reports whether the first attempt was on a GPU and failed in one of
// these ways.
func failedAs(t harness.Task, classes ...functions.Class) bool {
	first := t.Attempts[:min(1, len(t.Attempts))]
	return slices.ContainsFunc(first, func(a functions.Attempt) bool {
		return a.Device == functions.GPU && a.Failure != nil && slices.Contains(classes, a.Failure.Class)
	})
}

// story is a task's attempts in a few words.
func story(t harness.Task) string {
	var parts []string
	for _, a := range t.Attempts {
		part := string(a.Device)
		if len(a.GPUs) > 0 {
			part += " " + strings.Join(a.GPUs, " ")
		}
		if a.Failure != nil {
			part += fmt.Sprintf(": %s (%s)", a.Failure.Class, short(a.Failure.Message))
		} else {
			part += ": ok"
		}
		parts = append(parts, part)
	}
	return t.Status + "; attempts: " + strings.Join(parts, ", then ")
}

// short is a message in one line that a table can hold.
func short(text string) string {
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "/")
	if len(text) > 300 {
		text = "..." + text[len(text)-300:] // the cause stands last
	}
	return text
}

// cores is what a task of the model may use, on either device.
func cores() int { return goruntime.NumCPU() }
