package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// spareConns are connections beside one for each invocation: for looks at its
// health, and for those that the server has closed and we have not.
const spareConns = 4

// Plan is a container to start.
type Plan struct {
	Function functions.Function
	Spec     functions.Spec // the function's as its device runs it, with its defaults
	// Container is all but the command: Entrypoint and Command are ignored, because
	// the entry program starts first, and Mounts are added to.
	Container runtime.Spec
	GPU       bool
}

// Starter starts instances.
type Starter struct {
	Driver  runtime.Driver
	Program string        // path of the entry program, for mounting
	Dir     string        // for a folder of each container
	Launch  time.Duration // for create and start
	Init    time.Duration // for the program to be ready; 0 means 2 min
}

// usualInit is long because models load then.
const usualInit = 2 * time.Minute

// Start starts a container and returns when its program can be invoked. What it
// says on the way goes to w. A start that fails leaves nothing; its error is a
// *runtime.LaunchError of the engine, a *Fault that says what the program did, or
// the platform's own.
func (s *Starter) Start(ctx context.Context, p Plan, first functions.TaskID, w Words) (i *Instance, err error) {
	image, err := s.Driver.Image(ctx, p.Container.Image)
	if err != nil {
		return nil, err
	}
	door, err := entry.NewDoor(filepath.Join(s.Dir, p.Container.Name))
	if err != nil {
		return nil, err
	}
	life, quit := context.WithCancel(context.WithoutCancel(ctx))
	i = &Instance{
		Name: p.Container.Name, Born: time.Now(), driver: s.Driver, plan: p, door: door, output: newOutput(),
		exits: make(chan struct{}), ended: make(chan struct{}), quit: quit,
	}
	defer func() {
		if err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
			defer cancel()
			err = errors.Join(err, i.Kill(undo)) // keeps the kind of the first
			i = nil
		}
	}()
	i.output.attach(first, w)
	defer i.output.drop(first, p.Spec.AtOnce() > 1)
	if err := s.launch(ctx, life, i); err != nil {
		return i, err
	}
	ready, cancel := context.WithTimeoutCause(ctx, cmp.Or(s.Init, usualInit), functions.ErrTimeout)
	defer cancel()
	if err := i.open(ready, life, image.Argv(p.Spec.Entrypoint, p.Spec.Command), runtime.Streams{Stdout: side{i.output, 0}, Stderr: side{i.output, 1}}); err != nil {
		return i, err
	}
	if err := i.speaks.Ready(ready); err != nil {
		if ctx.Err() != nil { // not the program's fault
			return i, stopped(ctx, 0, false)
		}
		return i, err
	}
	return i, nil
}

// launch creates and starts the container.
func (s *Starter) launch(ctx, life context.Context, i *Instance) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Launch, functions.ErrTimeout)
	defer cancel()
	spec := i.plan.Container
	spec.Entrypoint, spec.Command = entry.Command(options(i.plan.Spec)), nil
	spec.Mounts = append(spec.Mounts[:len(spec.Mounts):len(spec.Mounts)], i.door.Mounts(s.Program)...)
	id, err := s.Driver.Create(ctx, spec)
	if err != nil {
		return err
	}
	i.ID = id
	// The program's own output comes by way of the entry program.
	if err := s.Driver.Start(ctx, id, runtime.Streams{Stderr: &i.complaint}); err != nil {
		return err
	}
	i.group.Go(func() { i.await(life) })
	return nil
}

func options(s functions.Spec) entry.Options {
	if s.Contract == functions.LambdaContract {
		return entry.Options{API: true}
	}
	return entry.Options{Conns: min(s.AtOnce()+spareConns, wire.MaxConns)}
}

// open lets the entry program in, and gives it its orders.
func (i *Instance) open(ctx, life context.Context, argv []string, streams runtime.Streams) error {
	// A container that ends before its entry program has come never comes.
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	i.group.Go(func() {
		select {
		case <-i.exits:
			cancel()
		case <-stop:
		}
	})
	session, err := i.door.Accept(waiting)
	if err != nil {
		select {
		case <-i.exits:
			return &Fault{Failure: functions.Failure{Class: functions.Infra, Message: fmt.Sprintf("the entry program did not come up in the container, which ended with code %d: %s", i.exit.Code, i.complaint.text())}}
		default:
			return err
		}
	}
	i.session = session
	if err := i.speak(); err != nil {
		return err
	}
	if err := session.Start(wire.Orders{Argv: argv}, streams); err != nil {
		return err
	}
	i.follows = true
	i.group.Go(func() { i.follow(life) })
	return nil
}

// speak sets up what the contract needs.
func (i *Instance) speak() error {
	p := i.plan
	if p.Spec.Contract == functions.HTTPContract {
		h := p.Spec.HTTP
		i.speaks = NewHTTP(HTTPConfig{Dial: i.dial, Port: h.Port, Path: h.Path, Health: h.Health, Concurrency: h.Concurrency})
		return nil
	}
	listener := i.session.Listener(wire.NameAPI)
	if listener == nil {
		return functions.Unavailable("no_api", "the entry program has handed over no listener for the Runtime API")
	}
	l := NewLambda(LambdaConfig{Function: p.Function.Name, Version: p.Function.Version, ARN: ARN(p.Function), Concurrency: p.Spec.AtOnce()})
	i.speaks = l
	i.group.Go(func() {
		if err := l.Serve(listener); err != nil {
			l.End(functions.Failure{Class: functions.Infra, Message: "the Runtime API has stopped: " + err.Error()})
		}
	})
	return nil
}
