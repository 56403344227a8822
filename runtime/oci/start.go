package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// Start implements runtime.Driver.
func (d *Driver) Start(ctx context.Context, id runtime.ID, streams runtime.Streams) error {
	c, err := d.find(id)
	var program *ociRuntime
	if err == nil {
		program, err = d.pick(ctx)
	}
	if err == nil {
		err = d.start(ctx, program, c, streams)
	}
	if err != nil {
		return &runtime.LaunchError{Stage: runtime.StageStart, Message: err.Error(), Hung: errors.Is(err, context.DeadlineExceeded), Err: err}
	}
	return nil
}

func (d *Driver) start(ctx context.Context, program *ociRuntime, c *container, streams runtime.Streams) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	d.reaping.Go(d.ready.get)
	w, err := d.spawn(program, c, streams.Stdin)
	if err != nil {
		close(c.attended)
		c.fails(err.Error())
		return err
	}
	c.mu.Lock()
	c.watch = w
	c.mu.Unlock()
	later := context.WithoutCancel(ctx)
	d.reaping.Go(func() {
		defer close(c.attended)
		d.attend(later, c, w, streams)
	})
	select {
	case <-c.up:
		return nil
	case <-c.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == exited {
		return nil // it ran, and is over already
	}
	return errors.New(c.failure)
}

// spawn starts a container's monitor.
func (d *Driver) spawn(program *ociRuntime, c *container, stdin []byte) (*watch, error) {
	if len(stdin) > 0 {
		if err := os.WriteFile(filepath.Join(c.dir, wire.FileStdin), stdin, 0o600); err != nil {
			return nil, fmt.Errorf("write standard input: %w", err)
		}
	}
	lock, err := takeLock(filepath.Join(c.dir, wire.FileLock))
	if err != nil {
		return nil, fmt.Errorf("lock container: %w", err)
	}
	defer lock.Close() // the monitor has it then
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "monitor")
	defer theirs.Close()
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return nil, os.NewSyscallError("set nonblocking", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "monitor")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer null.Close()
	process, err := os.StartProcess(d.config.Program, []string{d.config.Program, wire.RoleMonitor, c.dir}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=" + os.Getenv("PATH"), "GOMAXPROCS=1"}, // for the runtime and its hooks too: all of them mostly wait
		Files: []*os.File{null, null, null, wire.MonitorSocket: theirs, wire.MonitorLock: lock, wire.MonitorRuntime: program.sealed},
		Sys:   &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS},
	})
	if err != nil {
		ours.Close()
		return nil, functions.Unavailable("no_monitor", "cannot start a container's monitor").
			WithHint("run the agent as root: a container's file systems are mounted in a namespace of their own").WithCause(err)
	}
	return &watch{pid: process.Pid, child: process, frames: ours}, nil
}

// attend takes what the monitor says until it has ended, and moves the
// container on.
func (d *Driver) attend(ctx context.Context, c *container, w *watch, streams runtime.Streams) {
	err := w.listen(c.runs, streams)
	if errors.Is(err, os.ErrClosed) {
		return // abandoned
	}
	if err == nil {
		d.conclude(ctx, c) // by the record, which was there before the last word
		_ = w.wait()
		return
	}
	w.kill() // it was killed: what it was executing must not go on without it
	_ = w.wait()
	d.conclude(ctx, c)
}

// conclude ends a container whose monitor has had its last word, or is dead.
func (d *Driver) conclude(ctx context.Context, c *container) {
	e, err := readExit(c.dir)
	switch {
	case err == nil && e.Error != "":
		c.fails(words(c.dir, e.Error))
	case err == nil:
		c.exits(exitOf(e))
	default:
		d.lost(ctx, c, err)
	}
}

// lostTime bounds how long the processes of a container may take to be killed.
const lostTime = 30 * time.Second

// lost ends a container whose monitor left no record: nobody watches what is
// left of it, so it is killed.
func (d *Driver) lost(ctx context.Context, c *container, why error) {
	d.config.Log.Warn("a container's monitor was killed", "container", c.id, "err", why)
	ctx, cancel := context.WithTimeout(ctx, lostTime)
	defer cancel()
	if err := d.cgroups.Kill(ctx, c.group); err != nil {
		d.config.Log.Error("kill what is left of a container", "container", c.id, "err", err)
	}
	begun, err := os.Stat(filepath.Join(c.dir, wire.FilePID))
	if err != nil {
		c.fails(words(c.dir, "the container's monitor was killed before it ran"))
		return
	}
	e := wire.Exit{Code: 128 + int(syscall.SIGKILL), StartedAt: begun.ModTime().UnixNano(), FinishedAt: time.Now().UnixNano()}
	text, err := e.Append(nil)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, wire.FileExit), text, 0o600)
	}
	if err != nil {
		d.config.Log.Warn("write the record of an exit", "container", c.id, "err", err)
	}
	c.exits(exitOf(e))
}

// listen passes on what a monitor sends, up to its last word. It calls up when
// the container runs.
func (w *watch) listen(up func(), streams runtime.Streams) error {
	stdout, stderr := streams.Stdout, streams.Stderr
	var buf []byte
	for {
		kind, payload, err := wire.ReadFrame(w.frames, buf)
		if err != nil {
			return err
		}
		buf = payload
		switch kind {
		case wire.KindHello:
			up()
		case wire.KindStdout:
			stdout = pass(stdout, payload)
		case wire.KindStderr:
			stderr = pass(stderr, payload)
		case wire.KindReport:
			return nil
		}
	}
}

// pass writes to a stream, and returns nil in its place when it takes no more:
// the container must not stand still for it.
func pass(to io.Writer, p []byte) io.Writer {
	if to == nil {
		return nil
	}
	if _, err := to.Write(p); err != nil {
		return nil
	}
	return to
}
