package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// mostEvent bounds an event that is an object: it is held in memory and fed to
// the container's standard input.
const mostEvent = 16 * functions.MiB

// stagings is how many inputs of one attempt come at the same time.
const stagings = 4

// stage makes the attempt's folder as the container will see it, and returns the
// event for its standard input.
func (n *Node) stage(ctx context.Context, a *attempt) ([]byte, *functions.Failure) {
	if f := n.checkRoom(a); f != nil {
		return nil, f
	}
	if a.adopted { // what the agent before wrote of its own try does not count
		if err := a.folder.note(entry{State: &state{}}); err != nil {
			return nil, diskFailure("write down a new start", err)
		}
	}
	if err := n.furnish(a); err != nil {
		return nil, diskFailure("lay out the task folder", err)
	}
	event, f := n.event(ctx, a)
	if f != nil {
		return nil, f
	}
	if f := n.bringAll(ctx, a); f != nil {
		return nil, f
	}
	envelope, err := json.Marshal(envelopeOf(a.Assignment, event))
	if err != nil {
		return nil, &functions.Failure{Class: functions.Permanent, Message: "the event is not JSON: " + err.Error()}
	}
	if err := a.folder.writeEvent(envelope); err != nil {
		return nil, diskFailure("write event.json", err)
	}
	return event, nil
}

// writeEvent puts an event in the place of what event.json held. The file is
// written and not replaced, for a warm container has it mounted already; and it
// is never emptied, for the reason that forget gives.
func (f folder) writeEvent(envelope []byte) (err error) {
	file, err := os.OpenFile(f.event(), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(envelope); err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil || info.Size() == int64(len(envelope)) {
		return err
	}
	return file.Truncate(int64(len(envelope)))
}

// event is the JSON that the function is given.
func (n *Node) event(ctx context.Context, a *attempt) ([]byte, *functions.Failure) {
	t := &a.Assignment.Task
	event := []byte(t.Event)
	if t.EventRef != nil {
		if t.EventRef.Size > int64(mostEvent) {
			return nil, &functions.Failure{Class: functions.Permanent, Message: fmt.Sprintf("the event is over %s", mostEvent)}
		}
		file := a.folder.path("event")
		if err := os.RemoveAll(file); err != nil { // an earlier agent's
			return nil, diskFailure("replace the event", err)
		}
		if f := n.fetch(ctx, *t.EventRef, "the event", file); f != nil {
			return nil, f
		}
		var err error
		if event, err = os.ReadFile(file); err != nil {
			return nil, diskFailure("read the event", err)
		}
	}
	if len(event) == 0 {
		event = []byte("{}")
	}
	return event, nil
}

// furnish gives the attempt the folders that its container sees, as new.
func (n *Node) furnish(a *attempt) error {
	ready := a.laidOut
	a.laidOut = false
	inputs := len(a.Assignment.Task.Inputs) > 0
	switch {
	case a.instance != nil && ready:
		return a.instance.folder.swap(a.folder)
	case a.instance != nil:
		return a.instance.folder.moveTo(a.folder)
	case !ready:
		return a.folder.layOut(containerUser(), inputs)
	case inputs:
		return makeFolder(a.folder.in(), 0o755)
	}
	return nil
}

// bringAll brings every input, several at a time. One that fails ends the others,
// and of those that had failed until then the first in the task's order counts.
func (n *Node) bringAll(ctx context.Context, a *attempt) *functions.Failure {
	inputs := a.Assignment.Task.Inputs
	binds, fails := make([]*runtime.Mount, len(inputs)), make([]*functions.Failure, len(inputs))
	group, together := errgroup.WithContext(ctx)
	group.SetLimit(stagings)
	for i, in := range inputs {
		group.Go(func() error {
			if together.Err() != nil {
				return nil
			}
			bind, f := n.bring(together, a, in)
			if f != nil && together.Err() == nil { // else it failed because another had
				fails[i] = f
				return errors.New(f.Message)
			}
			binds[i] = bind
			return nil
		})
	}
	_ = group.Wait() // the failures say more
	for _, f := range fails {
		if f != nil {
			return f
		}
	}
	if ctx.Err() != nil {
		return &functions.Failure{Class: functions.Infra, Message: "stage the inputs: " + context.Cause(ctx).Error()}
	}
	a.binds = nil
	for _, b := range binds {
		if b != nil {
			a.binds = append(a.binds, *b)
		}
	}
	return nil
}

// bring makes one input a file of the folder in/. What cannot be a file there is
// mounted over an empty one: bring then returns the mount, which is read-only.
func (n *Node) bring(ctx context.Context, a *attempt, in functions.Input) (*runtime.Mount, *functions.Failure) {
	file := a.folder.path("in", in.Name)
	switch {
	case in.File != "":
		return n.bringShared(ctx, in, file)
	case in.URL != "":
		return nil, n.bringURL(ctx, in, file)
	}
	return nil, n.bringObject(ctx, in, file)
}

// bringObject takes an object from the nearest place: the disk of a store on this
// machine, the cache, the store.
func (n *Node) bringObject(ctx context.Context, in functions.Input, file string) *functions.Failure {
	what, ref := "input "+in.Name, in.ObjectRef
	if there, err := n.linkLocal(ref, file); there || err != nil {
		return stageFailure(what, ref, err)
	}
	if id := identity(ref); id != "" {
		download := func(ctx context.Context, f *os.File) error { return n.download(ctx, ref, f) }
		if there, err := n.cache.bring(ctx, id, functions.Bytes(ref.Size), file, download); there {
			return stageFailure(what, ref, err)
		}
	}
	return n.fetch(ctx, ref, what, file)
}

// fetch brings one object from the store to a file of its own.
func (n *Node) fetch(ctx context.Context, ref functions.ObjectRef, what, file string) *functions.Failure {
	return stageFailure(what, ref, create(file, func(f *os.File) error { return n.download(ctx, ref, f) }))
}

// download writes an object to an empty file. It is ErrConflict when the content
// is not the one that ref names.
func (n *Node) download(ctx context.Context, ref functions.ObjectRef, f *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, transferTime(ref.Size), functions.ErrTimeout)
	defer cancel()
	sum, err := n.cfg.Objects.Stage(ctx, ref, f)
	if err == nil && ref.SHA256 != "" && sum != ref.SHA256 {
		return functions.Conflict("object_changed", "its SHA-256 is %s instead of %s", sum, ref.SHA256)
	}
	return err
}

// stageFailure says what an error of staging means for the attempt.
func stageFailure(what string, ref functions.ObjectRef, err error) *functions.Failure {
	if err == nil {
		return nil
	}
	if full, ok := errors.AsType[*roomError](err); ok {
		return full.failure()
	}
	switch _, onDisk := errors.AsType[*fs.PathError](err); {
	case errors.Is(err, functions.ErrNotFound):
		return &functions.Failure{Class: functions.InputGone, Message: fmt.Sprintf("%s (%s/%s) no longer exists", what, ref.Bucket, ref.Key)}
	case errors.Is(err, functions.ErrConflict):
		return &functions.Failure{Class: functions.InputGone, Message: fmt.Sprintf("%s (%s/%s) has changed since the task was accepted", what, ref.Bucket, ref.Key)}
	case onDisk, fullDisk(err):
		return diskFailure("write "+what, err)
	}
	return &functions.Failure{Class: functions.Store, Message: fmt.Sprintf("cannot read %s (%s/%s): %v", what, ref.Bucket, ref.Key, err)}
}

// transferTime is the longest that an object may take: a minute, and a second
// for each MiB. A store that hangs must not hold a slot for ever.
func transferTime(size int64) time.Duration {
	return time.Minute + time.Duration(max(size, 0)>>20)*time.Second
}

// furniture is what of a folder a container sees.
func (f folder) furniture() []string { return []string{f.in(), f.work(), f.tmp(), f.event()} }

// clear takes away what an earlier agent has begun to stage.
func (f folder) clear() error {
	if err := unbind(f.in()); err != nil {
		return err
	}
	for _, old := range append(f.furniture(), f.path("event")) {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	return nil
}

// moveTo makes what a warm container sees the attempt's own. The container goes
// on seeing it: a mount follows what is mounted, not its name.
func (f folder) moveTo(to folder) error {
	if err := to.clear(); err != nil {
		return err
	}
	news := to.furniture()
	for i, old := range f.furniture() {
		if err := os.Rename(old, news[i]); err != nil {
			return err
		}
	}
	return nil
}

// swap is moveTo for a folder that is laid out: what was in it goes to the warm
// container's, so that nothing is made or removed.
func (f folder) swap(to folder) error {
	if err := os.Rename(f.in(), to.in()); err != nil {
		return err
	}
	for i, pair := range [][2]string{{f.work(), to.work()}, {f.tmp(), to.tmp()}, {f.event(), to.event()}} {
		err := unix.Renameat2(unix.AT_FDCWD, pair[0], unix.AT_FDCWD, pair[1], unix.RENAME_EXCHANGE)
		if i == 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) { // not on this file system
			if err := os.Rename(to.in(), f.in()); err != nil {
				return err
			}
			return f.moveTo(to)
		}
		if err != nil {
			return &os.LinkError{Op: "exchange", Old: pair[0], New: pair[1], Err: err}
		}
	}
	return nil
}

// layOut makes the folders anew: an attempt that an earlier agent began to stage
// is staged from its beginning. Without inputs nothing is mounted over the empty
// work/in.
func (f folder) layOut(user owner, inputs bool) error {
	if err := f.clear(); err != nil {
		return err
	}
	if inputs {
		if err := makeFolder(f.in(), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		path string
		mode os.FileMode
		give bool
	}{
		{f.work(), 0o755, true},
		{f.path("work", "in"), 0o755, false}, // where in/ is mounted
		{f.path("work", "out"), 0o755, true},
		{f.tmp(), 0o777 | os.ModeSticky, true},
	} {
		if err := makeFolder(d.path, d.mode); err != nil {
			return err
		}
		if d.give && os.Geteuid() == 0 {
			if err := os.Lchown(d.path, user.uid, user.gid); err != nil {
				return err
			}
		}
	}
	for _, file := range []string{f.path("work", "event.json"), f.event()} { // where event.json is mounted, and itself
		if err := writeReadable(file, nil); err != nil {
			return err
		}
	}
	return os.Chmod(f.event(), 0o644)
}

// makeFolder makes a folder of just this mode, whatever the umask.
func makeFolder(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// writeReadable makes a file that everybody may read and nobody write, whatever
// the umask.
func writeReadable(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o444); err != nil {
		return err
	}
	return os.Chmod(path, 0o444)
}
