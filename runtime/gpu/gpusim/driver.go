package gpusim

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// EnvDevices tells a program that its GPUs are simulated, and their UUIDs.
const EnvDevices = "TASK_SIMULATED_GPUS"

// Wrap returns a driver whose GPU containers are plain ones of inner, with
// everything else that a GPU attempt has, and with the faults of the host.
func (h *Host) Wrap(inner runtime.Driver) runtime.Driver {
	return &driver{Driver: inner, host: h, held: map[runtime.ID]*launch{}}
}

// driver is inner but for containers that ask for GPUs. Those that it does not
// know, as after a restart of the agent, are plain ones.
type driver struct {
	runtime.Driver
	host *Host

	mu   sync.Mutex // guards the field below
	held map[runtime.ID]*launch
}

// launch is a container that asked for GPUs.
type launch struct {
	indices []int           // of its devices
	memory  functions.Bytes // it takes of each device; 0 = all
	serves  bool            // one task after another: what it takes, and when, is not known
	ended   *ending         // set by Start, where a fault took the program's place
}

// ending is the end of a program that a fault has ended before it began: its
// container was never started.
type ending struct {
	text string
	exit runtime.Exit
}

// Create implements runtime.Driver.
func (d *driver) Create(ctx context.Context, spec runtime.Spec) (runtime.ID, error) {
	if len(spec.GPUs) == 0 {
		return d.Driver.Create(ctx, spec)
	}
	_, serves := spec.Labels[runtime.LabelServe]
	l := &launch{memory: promised(spec.Env), serves: serves}
	var missing string
	if l.indices, missing = d.host.find(spec.GPUs); missing != "" {
		message := words(NoDevice, missing)
		return "", &runtime.LaunchError{Stage: runtime.StageCreate, Message: message, Err: errors.New(message)}
	}
	spec.Env = append(slices.Clone(spec.Env), EnvDevices+"="+strings.Join(spec.GPUs, ","))
	spec.GPUs = nil
	id, err := d.Driver.Create(ctx, spec)
	if err == nil {
		d.mu.Lock()
		d.held[id] = l
		d.mu.Unlock()
	}
	return id, err
}

// promised is the memory that the container was told it has; 0 when it was not.
func promised(env []string) functions.Bytes {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "TASK_GPU_MEMORY_MIB="); ok {
			mib, err := strconv.ParseInt(v, 10, 32)
			if err == nil {
				return functions.Bytes(mib) * functions.MiB
			}
		}
	}
	return 0
}

func (d *driver) of(id runtime.ID) *launch {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held[id]
}

// ending is how a fault has ended the container; nil when none has.
func (d *driver) ending(id runtime.ID) *ending {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.held[id]; l != nil {
		return l.ended
	}
	return nil
}

// Start implements runtime.Driver.
func (d *driver) Start(ctx context.Context, id runtime.ID, io runtime.Streams) error {
	l := d.of(id)
	if l == nil {
		return d.Driver.Start(ctx, id, io)
	}
	end, slow := d.host.cfg.Faults.strike(l.indices)
	for _, f := range slow {
		if !functions.Sleep(ctx, f.Pause) {
			return unanswered(ctx)
		}
	}
	switch {
	case end == nil:
		if lost := d.host.firstLost(l.indices); lost != "" {
			return refused(hookFailed + "nvidia-container-cli: detection error: nvml error: " + lost + ": GPU is lost: unknown")
		}
	case end.Kind == Hang:
		<-ctx.Done()
		return unanswered(ctx)
	case kinds[end.Kind].stage == onLaunch:
		return refused(words(end.Kind, d.host.uuid(l.struck(end))))
	default:
		if end.Kind == Lost {
			d.host.lose(l.struck(end))
		}
		d.endAtOnce(l, io, words(end.Kind, d.host.uuid(l.struck(end))), kinds[end.Kind].code)
		return nil
	}
	u := use{devices: l.indices, memory: l.memory}
	if asked, ok := wanted(io.Stdin); ok {
		u.memory = asked
	}
	if !l.serves && !d.host.take(id, u) {
		d.endAtOnce(l, io, words(OutOfMemory, d.host.uuid(l.indices[0])), kinds[OutOfMemory].code)
		return nil
	}
	if err := d.Driver.Start(ctx, id, io); err != nil {
		d.host.giveBack(id)
		return err
	}
	return nil
}

// wanted is the memory that an event makes the program take: its member gpu_mib.
func wanted(event []byte) (functions.Bytes, bool) {
	var knobs struct {
		GPU *int32 `json:"gpu_mib"`
	}
	if json.Unmarshal(event, &knobs) != nil || knobs.GPU == nil || *knobs.GPU < 1 {
		return 0, false
	}
	return functions.Bytes(*knobs.GPU) * functions.MiB, true
}

// words are those in which a fault of a device shows itself.
func words(k Kind, uuid string) string { return strings.ReplaceAll(kinds[k].says, "%s", uuid) }

// struck is the index of the device that a fault has hit.
func (l *launch) struck(f *Fault) int {
	if f.Index != Everywhere {
		return f.Index
	}
	return l.indices[0]
}

func refused(message string) error {
	return &runtime.LaunchError{Stage: runtime.StageStart, Message: message, Err: errors.New(message)}
}

// unanswered is the end of the caller's patience.
func unanswered(ctx context.Context) error {
	err := ctx.Err()
	return &runtime.LaunchError{Stage: runtime.StageStart, Message: err.Error(), Hung: errors.Is(err, context.DeadlineExceeded), Err: err}
}

// endAtOnce lets a container end before its program has begun.
func (d *driver) endAtOnce(l *launch, io runtime.Streams, text string, code int) {
	now := d.host.cfg.Now()
	e := &ending{text: text + "\n", exit: runtime.Exit{Code: code, StartedAt: now, FinishedAt: now}}
	e.say(io)
	d.mu.Lock()
	defer d.mu.Unlock()
	l.ended = e
}

// say writes what the program wrote. A writer that fails costs nothing.
func (e *ending) say(io runtime.Streams) {
	if io.Stderr != nil {
		_, _ = io.Stderr.Write([]byte(e.text))
	}
}

// Attach implements runtime.Driver.
func (d *driver) Attach(ctx context.Context, id runtime.ID, io runtime.Streams) error {
	if e := d.ending(id); e != nil {
		e.say(io)
		return nil
	}
	return d.Driver.Attach(ctx, id, io)
}

// Wait implements runtime.Driver.
func (d *driver) Wait(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	if e := d.ending(id); e != nil {
		return e.exit, nil
	}
	exit, err := d.Driver.Wait(ctx, id)
	if err == nil {
		d.host.giveBack(id)
	}
	return exit, err
}

// Stop implements runtime.Driver.
func (d *driver) Stop(ctx context.Context, id runtime.ID, grace time.Duration) error {
	if d.ending(id) != nil {
		return nil
	}
	err := d.Driver.Stop(ctx, id, grace)
	if err == nil {
		d.host.giveBack(id)
	}
	return err
}

// Remove implements runtime.Driver.
func (d *driver) Remove(ctx context.Context, id runtime.ID) error {
	err := d.Driver.Remove(ctx, id)
	if err == nil {
		d.host.giveBack(id)
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.held, id)
	}
	return err
}

// List implements runtime.Driver.
func (d *driver) List(ctx context.Context, labels map[string]string) ([]runtime.Info, error) {
	infos, err := d.Driver.List(ctx, labels)
	for i := range infos {
		if d.ending(infos[i].ID) != nil {
			infos[i].State = runtime.Exited
		}
	}
	return infos, err
}

// Usage implements runtime.Driver.
func (d *driver) Usage(ctx context.Context, id runtime.ID) (runtime.Usage, error) {
	if d.ending(id) != nil {
		return runtime.Usage{}, nil
	}
	return d.Driver.Usage(ctx, id)
}
