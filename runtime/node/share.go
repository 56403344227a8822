package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"golang.org/x/sys/unix"
)

// Shares are the shared folders of this machine.
type Shares interface {
	// Mounted lists those that are there now.
	Mounted() []string
	// Open opens SHARE/path and says what it holds. ErrNotFound: no such file.
	// ErrForbidden: containers may not have it. ErrUnavailable: the share is away.
	Open(file string) (*os.File, functions.ObjectRef, error)
}

// ContainerUser is who reads the inputs of tasks: what its rights do not open, no
// container gets.
func ContainerUser() (uid, gid int) {
	u := containerUser()
	return u.uid, u.gid
}

// shareTime is the longest that a file server may take to open a file.
const shareTime = 30 * time.Second

// bringShared gives the container the very file of a shared folder, unless it has
// changed since the task was accepted. The file is opened and checked before, and
// it is the open file that is mounted, linked or copied: what others make of its
// name meanwhile is of no consequence.
func (n *Node) bringShared(ctx context.Context, in functions.Input, target string) (*runtime.Mount, *functions.Failure) {
	what := "input " + in.Name + " (" + in.File + ")"
	if n.cfg.Shares == nil {
		return nil, &functions.Failure{Class: functions.Infra, Message: what + ": this node has no shared folders"}
	}
	f, now, err := n.openShared(ctx, in.File)
	if err != nil {
		return nil, placeFailure(what, functions.Infra, err)
	}
	defer f.Close()
	if in.ETag != "" && in.ETag != now.ETag {
		return nil, &functions.Failure{Class: functions.InputGone, Message: what + " has changed since the task was accepted"}
	}
	if err := bindOpen(f, target); err == nil {
		return &runtime.Mount{Source: target, Target: inputDir + "/" + in.Name, ReadOnly: true}, nil
	}
	if err := linkOpen(f, target); err == nil {
		return nil, nil
	}
	if err := n.room(functions.Bytes(now.Size)); err != nil {
		return nil, stageFailure(what, now, err)
	}
	if err := copyTo(target, f); err != nil {
		return nil, diskFailure("copy "+what, err)
	}
	return nil, nil
}

// openShared opens a file of a share, and does not wait for ever for a file server
// that is away: what comes of it then is closed when it comes.
func (n *Node) openShared(ctx context.Context, file string) (*os.File, functions.ObjectRef, error) {
	type opened struct {
		f   *os.File
		ref functions.ObjectRef
		err error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, shareTime, functions.ErrTimeout)
	defer cancel()
	done := make(chan opened)
	go func() {
		var o opened
		o.f, o.ref, o.err = n.cfg.Shares.Open(file)
		select {
		case done <- o:
		case <-ctx.Done():
			if o.err == nil {
				o.f.Close()
			}
		}
	}()
	select {
	case o := <-done:
		return o.f, o.ref, o.err
	case <-ctx.Done():
		return nil, functions.ObjectRef{}, functions.Unavailable("share_hangs", "the shared folder does not answer").WithCause(context.Cause(ctx))
	}
}

// placeFailure says what an error of an input that is not an object means for the
// attempt; away is the class of one that may be better later.
func placeFailure(what string, away functions.Class, err error) *functions.Failure {
	f := &functions.Failure{Class: away, Message: what + ": " + err.Error()}
	switch {
	case errors.Is(err, functions.ErrUnavailable), errors.Is(err, functions.ErrTimeout):
	case errors.Is(err, functions.ErrNotFound):
		f.Class = functions.InputGone
	case errors.Is(err, functions.ErrForbidden), errors.Is(err, functions.ErrInvalid), errors.Is(err, functions.ErrTooLarge):
		f.Class = functions.Permanent
	}
	if known, ok := errors.AsType[*functions.Error](err); ok {
		f.Hint = known.Hint
	}
	return f
}

// bindOpen mounts an open file, read-only, at target. It works for an agent that
// may mount, and that mounts where the engine sees it: in the machine's own
// namespace. When it fails there is nothing at target.
func bindOpen(f *os.File, target string) (err error) {
	if !mountsAsHost() {
		return errors.New("the engine would not see a mount of this agent")
	}
	// Without any rights: should the mount be missing where the container starts,
	// it reads nothing, and not an empty file.
	under, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(target))
		}
	}()
	if err := under.Close(); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	err = unix.Mount("", target, "", unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("mount read-only: %w", err), unix.Unmount(target, unix.MNT_DETACH))
	}
	return nil
}

// mountsAsHost reports whether what this process mounts is seen by the machine's
// first process, and by engines, which share its namespace. The root has the same
// number in one namespace only; and of a container's processes none is kthreadd.
func mountsAsHost() bool {
	kernel, err := os.ReadFile("/proc/2/comm")
	if err != nil || strings.TrimSpace(string(kernel)) != "kthreadd" {
		return false
	}
	own, host := rootMount("/proc/self/mountinfo"), rootMount("/proc/1/mountinfo")
	return own != "" && own == host
}

// rootMount is the number of the mount at /, the last one there.
func rootMount(mountinfo string) (id string) {
	all, err := os.ReadFile(mountinfo)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(all)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			id = f[0]
		}
	}
	return id
}

// unbind takes away what bindOpen has mounted below a folder. A container that
// runs keeps its own mount.
func unbind(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing is there
	}
	for _, e := range entries {
		err := unix.Unmount(filepath.Join(dir, e.Name()), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) { // no mount; not ours to take
			return fmt.Errorf("unmount input: %w", err)
		}
	}
	return nil
}

// watchShares keeps the list of shared folders that heartbeats carry. A file
// server that is away may hold up a look without end: then nothing is listed
// until the look comes back.
func (n *Node) watchShares(ctx context.Context) {
	if n.cfg.Shares == nil {
		return
	}
	for {
		seen := make(chan []string, 1)
		go func() { seen <- n.cfg.Shares.Mounted() }()
		patience := time.NewTimer(n.time.Probe)
		for waiting := true; waiting; {
			select {
			case names := <-seen:
				n.setShares(names)
				waiting = false
			case <-patience.C:
				n.setShares(nil)
			case <-ctx.Done():
				patience.Stop()
				return
			}
		}
		patience.Stop()
		if !functions.Sleep(ctx, n.time.Probe) {
			return
		}
	}
}

func (n *Node) setShares(names []string) {
	n.mu.Lock()
	same := slices.Equal(n.shares, names)
	n.shares = names
	n.mu.Unlock()
	if !same {
		n.cfg.Log.Info("shared folders changed", "shares", names)
		n.changed()
	}
}
