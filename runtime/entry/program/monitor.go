package main

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/runtime/entry/framelog"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// trailTime bounds how long output may trail behind the end of its container.
// All its processes are dead by then, so only a descriptor passed to another
// container could hold a pipe open.
const trailTime = 10 * time.Second

// monitor stands beside one container of an OCI runtime, from before its start
// to after its end. It was started in a mount namespace of its own: the root
// file system is mounted there and nowhere else, so that it goes with the last
// process that uses it, whatever becomes of the agent or of the monitor itself.
// The argument is the container's folder.
func monitor(args []string) int {
	if len(args) != 1 || os.Chdir(args[0]) != nil {
		return wire.ExitFault
	}
	runtime.LockOSThread() // a parent's death is that of its thread
	unix.CloseOnExec(wire.MonitorSocket)
	unix.CloseOnExec(wire.MonitorLock)
	unix.CloseOnExec(wire.MonitorRuntime)
	unix.Umask(0o022)
	_, err := unix.Pwrite(wire.MonitorLock, []byte(strconv.Itoa(os.Getpid())), 0)
	// Not ignored but caught: what is ignored stays ignored in the container.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	w := &watch{signals: signals, agent: wire.MonitorSocket}
	if err == nil {
		err = w.prepare()
	}
	if err == nil {
		err = w.run()
	}
	if err == nil {
		return 0
	}
	now := time.Now().UnixNano()
	w.finish(wire.Exit{Code: wire.ExitFault, StartedAt: now, FinishedAt: now, Error: err.Error()},
		wire.Report{Exit: wire.ExitFault, Error: err.Error()})
	return wire.ExitFault
}

// watch is the monitor of one container.
type watch struct {
	launch  wire.Launch
	signals chan os.Signal

	mu    sync.Mutex       // guards the fields below
	agent int              // -1 = it does not listen any more
	log   *framelog.Writer // nil = it could not be made: the container is to run all the same
}

// prepare reads the orders and mounts the container's root file system.
func (w *watch) prepare() error {
	text, err := os.ReadFile(wire.FileLaunch)
	if err != nil {
		return err
	}
	if w.launch, err = wire.ParseLaunch(text); err != nil {
		return err
	}
	// What the host unmounts is unmounted here; nothing goes the other way.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return os.NewSyscallError("make mounts private", err)
	}
	for _, path := range w.launch.Hide {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	return mountRoot(w.launch)
}

// run brings the container to life and stays until it has ended. An error means
// that it never ran.
func (w *watch) run() error {
	stdin, err := os.Open(wire.FileStdin)
	if os.IsNotExist(err) {
		stdin, err = os.Open(os.DevNull)
	}
	if err != nil {
		return err
	}
	var out, errs [2]int
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	if err := unix.Pipe2(errs[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	path := w.launch.Argv[0]
	if seals, err := unix.FcntlInt(wire.MonitorRuntime, unix.F_GET_SEALS, 0); err == nil && seals != 0 {
		path = "/proc/self/fd/" + strconv.Itoa(wire.MonitorRuntime)
	}
	program, err := syscall.ForkExec(path, w.launch.Argv, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{stdin.Fd(), uintptr(out[1]), uintptr(errs[1])},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}, // a container without a monitor must not come to life
	})
	stdin.Close()
	unix.Close(out[1])
	unix.Close(errs[1])
	if err != nil {
		return &os.PathError{Op: "execute", Path: w.launch.Argv[0], Err: err}
	}
	var children reaper
	if status := children.wait(program).status; status != 0 {
		return unstarted{status, tail(errs[0])}
	}
	init, err := readPID()
	if err != nil {
		return err
	}
	w.follow(init, children, out[0], errs[0])
	return nil
}

// follow keeps the output of a container that runs, passes SIGTERM on to it,
// and reports how it ended.
func (w *watch) follow(init int, children reaper, stdout, stderr int) {
	started := time.Now()
	w.mu.Lock()
	w.log, _ = framelog.Create(w.launch.Log, w.launch.LogSize)
	hello, _ := wire.Hello{V: wire.Version}.Append(nil) // without text there is no error
	w.tell(wire.AppendFrame(nil, wire.KindHello, hello))
	w.mu.Unlock()

	// While this is open the kernel takes the container's mounts apart behind the
	// monitor's end, and not before the container's.
	_, _ = unix.Open("/proc/"+strconv.Itoa(init)+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0) // it may have ended
	handle, err := unix.PidfdOpen(init, 0)                                                   // it cannot have been reaped yet, so it is the one
	if err == nil {
		go func() {
			for s := range w.signals {
				if s == unix.SIGTERM {
					_ = unix.PidfdSendSignal(handle, unix.SIGTERM, nil, 0) // it may have ended
				}
			}
		}()
	}
	copied := make(chan struct{}, 2)
	go w.pump(stdout, wire.KindStdout, copied)
	go w.pump(stderr, wire.KindStderr, copied)
	end := children.wait(init)
	finished := time.Now()
	late := time.After(trailTime)
	for streams := 2; streams > 0; streams-- {
		select {
		case <-copied:
		case <-late:
			streams = 0
		}
	}
	w.mu.Lock()
	if w.log != nil {
		_ = w.log.Close() // without its mark, followers learn of the end from the record
	}
	w.mu.Unlock()
	report := wire.Report{
		Exit: codeOf(end.status), MaxRSS: end.usage.Maxrss << 10,
		UserUS: end.usage.Utime.Nano() / 1000, SystemUS: end.usage.Stime.Nano() / 1000,
	}
	if end.status.Signaled() {
		report.Signal = int(end.status.Signal())
	}
	w.finish(wire.Exit{
		Code: report.Exit, OOMKilled: oomKills(w.launch.Memory) > 0,
		StartedAt: started.UnixNano(), FinishedAt: finished.UnixNano(),
	}, report)
}

// pump copies one stream to the log and to the agent until it ends.
func (w *watch) pump(fd int, kind wire.Kind, done chan<- struct{}) {
	defer func() { done <- struct{}{} }()
	buf := make([]byte, wire.HeaderSize+32<<10)
	for {
		n, err := unix.Read(fd, buf[wire.HeaderSize:])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		wire.PutHeader(buf, kind, n)
		w.mu.Lock()
		if w.log != nil {
			_ = w.log.Write(kind, buf[wire.HeaderSize:][:n]) // what is missing is marked in it
		}
		w.tell(buf[:wire.HeaderSize+n])
		w.mu.Unlock()
	}
}

// tell sends frames to the agent, unless it is gone. It is called with mu held.
func (w *watch) tell(frames []byte) {
	for w.agent >= 0 && len(frames) > 0 {
		n, err := unix.SendmsgN(w.agent, frames, nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
		case err != nil:
			unix.Close(w.agent)
			w.agent = -1
		default:
			frames = frames[n:]
		}
	}
}

// finish leaves the record of the exit, then tells the agent.
func (w *watch) finish(e wire.Exit, r wire.Report) {
	const unfinished = wire.FileExit + ".new"
	text, err := e.Append(nil)
	if err == nil {
		err = os.WriteFile(unfinished, text, 0o600)
	}
	if err == nil {
		_ = os.Rename(unfinished, wire.FileExit) // the agent, finding none, says that the monitor failed
	}
	if text, err := r.Append(nil); err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tell(wire.AppendFrame(nil, wire.KindReport, text))
	}
}
