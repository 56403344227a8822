package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry"
)

const (
	// exitTime is how long the engine may take to say how a container ended, when
	// its entry program cannot say it.
	exitTime = 10 * time.Second
	// breakTime is how long a broken connection waits for the exit that explains it.
	breakTime = 2 * time.Second
	// flushTime bounds the wait for the last words of a task.
	flushTime = time.Second
	// mostGrace is the most time between SIGTERM and SIGKILL for a container that
	// has no task.
	mostGrace = 2 * time.Second
	// undoTime bounds one attempt to remove a container.
	undoTime = 30 * time.Second
)

// contract is the half of an instance that speaks to the program.
type contract interface {
	Ready(ctx context.Context) error
	Invoke(ctx context.Context, r Request) (Response, error)
	End(why functions.Failure)
	Close()
}

// Instance is one container that serves. Its methods may be called from many
// goroutines; Kill ends it.
type Instance struct {
	ID   runtime.ID
	Name string
	Born time.Time

	driver    runtime.Driver
	plan      Plan
	door      *entry.Door
	session   *entry.Session
	speaks    contract
	output    *output
	complaint beginning // of the container's own standard error: why the entry program could not come up
	group     sync.WaitGroup

	exits chan struct{} // closed when exit is known, or the engine does not know it
	exit  runtime.Exit
	known bool // exit is the engine's word; read only when exits is closed

	follows bool              // somebody waits for the program's end
	ended   chan struct{}     // closed when the program has ended, and the contract was told
	cause   functions.Failure // of its end; read only when ended is closed
	quit    context.CancelFunc
	kill    sync.Once
}

// Invoke runs one task. Its words go to w from hand-out to answer.
func (i *Instance) Invoke(ctx context.Context, r Request, w Words) (Response, error) {
	i.output.attach(r.Task, w)
	defer i.detach(r.Task)
	res, err := i.speaks.Invoke(ctx, r)
	if err == nil {
		return res, nil
	}
	f := *FaultOf(err)
	if f.Class == functions.Crashed { // the engine and the entry program know more than a socket
		i.explain(&f)
	}
	if i.plan.GPU && (f.Class == functions.ExitError || f.Class == functions.Crashed) {
		// A program that survives an error of CUDA answers with it.
		if class := runtime.ClassifyRun(runtime.Exit{Code: 1}, true, f.Message+"\n"+i.output.errors(), false); class != functions.ExitError {
			f.Class = class
		}
	}
	return Response{}, &f
}

// detach gives the task no more words once all that it has said is here: they
// come on another way than its answer.
func (i *Instance) detach(id functions.TaskID) {
	defer i.output.detach(id)
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	_ = i.session.Flush(ctx) // what is late, and what a program that was killed had not sent, is lost
}

// explain waits for the exit that may be the cause of a broken connection.
func (i *Instance) explain(f *Fault) {
	timer := time.NewTimer(breakTime)
	defer timer.Stop()
	select {
	case <-i.ended:
		if i.cause.Class != "" {
			f.Failure = i.cause
		}
	case <-timer.C:
	}
}

// Ended reports whether the program has ended.
func (i *Instance) Ended() bool {
	select {
	case <-i.ended:
		return true
	default:
		return false
	}
}

// Kill ends the container and removes it. It returns when nothing is left of it,
// or when ctx ends; then the error says what is left.
func (i *Instance) Kill(ctx context.Context) error {
	var err error
	i.kill.Do(func() { err = i.tearDown(ctx) })
	return err
}

func (i *Instance) tearDown(ctx context.Context) error {
	grace := min(i.plan.Spec.Grace.Std(), mostGrace)
	if i.follows && !i.Ended() && grace > 0 {
		// By way of the entry program: it takes milliseconds, and nothing is lost if
		// it does not work.
		if i.session.Signal(syscall.SIGTERM) == nil {
			timer := time.NewTimer(grace)
			select {
			case <-i.ended:
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
	if i.speaks != nil {
		i.speaks.End(functions.Failure{Class: functions.Infra, Message: "the container was removed"})
	}
	var err error
	if i.ID != "" {
		err = i.driver.Remove(ctx, i.ID)
	}
	i.quit()
	if i.speaks != nil {
		i.speaks.Close()
	}
	if i.session != nil {
		err = errors.Join(err, i.session.Close())
	}
	err = errors.Join(err, i.door.Close())
	i.group.Wait()
	if err != nil {
		return fmt.Errorf("remove container %s: %w", i.Name, err)
	}
	return nil
}

// follow tells the contract how the program ended.
func (i *Instance) follow(ctx context.Context) {
	report, err := i.session.Wait(ctx)
	if ctx.Err() != nil {
		close(i.ended)
		return
	}
	exit := runtime.Exit{Code: report.Exit}
	if err != nil || report.Exit == 128+int(syscall.SIGKILL) { // whether for its memory only the engine knows
		timer := time.NewTimer(exitTime)
		defer timer.Stop()
		select {
		case <-i.exits:
			if i.known {
				exit = i.exit
			}
		case <-timer.C:
		case <-ctx.Done():
		}
		if exit.Code == 0 {
			exit.Code = 128 + int(syscall.SIGKILL) // an end without a report is nothing else
		}
	}
	i.cause = i.why(exit, report.Error)
	i.speaks.End(i.cause)
	close(i.ended)
}

// why says what an exit means. A program that serves does not end by itself.
func (i *Instance) why(exit runtime.Exit, refused string) functions.Failure {
	words := i.output.errors()
	f := functions.Failure{Class: runtime.ClassifyRun(exit, i.plan.GPU, words, false), ExitCode: exit.Code}
	switch {
	case refused != "":
		f.Class, f.Message = functions.BadEntry, refused
		return f
	case f.Class == "":
		f.Class = functions.Crashed
	case f.Class == functions.OutOfMemory:
		f.Message = fmt.Sprintf("used more than its %s of memory", i.plan.Spec.Limits.Memory)
		return f
	}
	f.Message = fmt.Sprintf("the program ended with code %d, and should have gone on serving", exit.Code)
	words = strings.TrimSpace(words)
	if line := clip([]byte(words[strings.LastIndexByte(words, '\n')+1:]), 300); line != "" {
		f.Message += ": " + line
	}
	return f
}

// await asks the engine for the exit.
func (i *Instance) await(ctx context.Context) {
	defer close(i.exits)
	exit, err := i.driver.Wait(ctx, i.ID)
	i.exit, i.known = exit, err == nil
}

// dial connects to the server's port.
func (i *Instance) dial(ctx context.Context) (net.Conn, error) {
	return i.session.Dial(ctx, i.plan.Spec.HTTP.Port)
}
