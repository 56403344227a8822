package main

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// drainTime is how long after the command's exit its output may still come: a
// process that it left behind may hold the pipe for ever.
const drainTime = time.Second

// agentTime is how long an agent that takes nothing may hold up the end of a
// container.
const agentTime = 30 * time.Second

// supervise runs the command to its end.
func supervise(c *command, to *agent, signals <-chan os.Signal) (wire.Report, *refusal) {
	// What the command leaves behind is this process's to reap, whether it is
	// process 1 or not.
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // fails on no kernel since 3.4
	surviveBrokenPipes()
	in, out, errs, err := openPipes()
	if err != nil {
		return wire.Report{}, c.refused(err)
	}
	died := children()
	pid, no := c.start(in.theirs, out.theirs, errs.theirs)
	for _, p := range []pipe{in, out, errs} {
		syscall.Close(p.theirs)
	}
	if no != nil {
		return wire.Report{}, no
	}

	input := newInput(in.ours)
	go input.feed()
	var copying sync.WaitGroup
	taps := []*tap{{from: out.ours, own: os.Stdout, kind: wire.KindStdout}, {from: errs.ours, own: os.Stderr, kind: wire.KindStderr}}
	for _, t := range taps {
		copying.Go(func() { t.tee(to) })
	}

	frames := to.frames
	for {
		select {
		case s := <-signals:
			syscall.Kill(-pid, s.(syscall.Signal))
		case f, ok := <-frames:
			switch {
			case !ok:
				frames = nil
				input.end() // what has not come will not
			case f.kind == wire.KindStdin && len(f.payload) == 0:
				input.end()
			case f.kind == wire.KindStdin:
				input.add(f.payload)
			case f.kind == wire.KindSignal && len(f.payload) == 1:
				syscall.Kill(-pid, syscall.Signal(f.payload[0]))
			case f.kind == wire.KindMark:
				go mark(taps, to, f.payload)
			}
		case <-died:
			status, ended := reap(pid)
			if !ended {
				continue
			}
			limit := time.Now().Add(drainTime)
			out.ours.SetReadDeadline(limit)
			errs.ours.SetReadDeadline(limit)
			to.limit(agentTime)
			copying.Wait()
			r := ending(status)
			r.Left = anyLeft()
			return r, nil
		}
	}
}

// ending is the report of a command that has ended.
func ending(status syscall.WaitStatus) wire.Report {
	r := wire.Report{Exit: codeOf(status)}
	if status.Signaled() {
		r.Signal = int(status.Signal())
	}
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &used) == nil {
		r.MaxRSS = used.Maxrss << 10
		r.UserUS = used.Utime.Nano() / 1000
		r.SystemUS = used.Stime.Nano() / 1000
	}
	return r
}

// codeOf is the exit code for a status, as shells have it.
func codeOf(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
