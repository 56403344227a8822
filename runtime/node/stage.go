package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spillway/spillway/functions"
)

// mostEvent bounds an event that is an object: it is held in memory and fed to
// the container's standard input.
const mostEvent = 16 * functions.MiB

// stage makes the attempt's folder as the container will see it, and returns the
// event for its standard input.
func (n *Node) stage(ctx context.Context, a *attempt) ([]byte, *functions.Failure) {
	t := &a.Assignment.Task
	if f := n.checkRoom(a); f != nil {
		return nil, f
	}
	if a.adopted { // what the agent before wrote of its own try does not count
		if err := a.folder.note(entry{State: &state{}}); err != nil {
			return nil, diskFailure("write down a new start", err)
		}
	}
	if err := a.folder.layOut(containerUser(), len(t.Inputs) > 0); err != nil {
		return nil, diskFailure("lay out the task folder", err)
	}
	event := []byte(t.Event)
	if t.EventRef != nil {
		if t.EventRef.Size > int64(mostEvent) {
			return nil, &functions.Failure{Class: functions.Permanent, Message: fmt.Sprintf("the event is over %s", mostEvent)}
		}
		file := a.folder.path("event")
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
	for _, in := range t.Inputs {
		if f := n.fetch(ctx, in.ObjectRef, "input "+in.Name, a.folder.path("in", in.Name)); f != nil {
			return nil, f
		}
	}
	envelope, err := json.Marshal(envelopeOf(a.Assignment, event))
	if err != nil {
		return nil, &functions.Failure{Class: functions.Permanent, Message: "the event is not JSON: " + err.Error()}
	}
	if err := writeReadable(a.folder.event(), envelope); err != nil {
		return nil, diskFailure("write event.json", err)
	}
	return event, nil
}

// fetch brings one object to a file that only its owner could write, and nobody does.
func (n *Node) fetch(ctx context.Context, ref functions.ObjectRef, what, file string) (fail *functions.Failure) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o444)
	if err != nil {
		return diskFailure("create "+what, err)
	}
	defer func() {
		if err := errors.Join(f.Chmod(0o444), f.Close()); err != nil && fail == nil {
			fail = diskFailure("write "+what, err)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, transferTime(ref.Size), functions.ErrTimeout)
	defer cancel()
	sum, err := n.cfg.Objects.Stage(ctx, ref, f)
	switch {
	case errors.Is(err, functions.ErrNotFound):
		return &functions.Failure{Class: functions.InputGone, Message: fmt.Sprintf("%s (%s/%s) no longer exists", what, ref.Bucket, ref.Key)}
	case errors.Is(err, functions.ErrConflict), err == nil && ref.SHA256 != "" && sum != ref.SHA256:
		return &functions.Failure{Class: functions.InputGone, Message: fmt.Sprintf("%s (%s/%s) has changed since the task was accepted", what, ref.Bucket, ref.Key)}
	case err != nil && fullDisk(err):
		return diskFailure("write "+what, err)
	case err != nil:
		return &functions.Failure{Class: functions.Store, Message: fmt.Sprintf("cannot read %s (%s/%s): %v", what, ref.Bucket, ref.Key, err)}
	}
	return nil
}

// transferTime is the longest that an object may take: a minute, and a second
// for each MiB. A store that hangs must not hold a slot for ever.
func transferTime(size int64) time.Duration {
	return time.Minute + time.Duration(max(size, 0)>>20)*time.Second
}

// layOut makes the folders anew: an attempt that an earlier agent began to stage
// is staged from its beginning. Without inputs nothing is mounted over the empty
// work/in.
func (f folder) layOut(user owner, inputs bool) error {
	for _, old := range []string{f.in(), f.work(), f.tmp(), f.event(), f.path("event")} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
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
	return writeReadable(f.path("work", "event.json"), nil) // where event.json is mounted
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
