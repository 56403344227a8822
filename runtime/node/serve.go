package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/serve"
)

// serveTries is how many containers that wait are tried for one attempt: each may
// have died since it was last used.
const serveTries = 3

// doors is where the containers that serve find their way to the agent.
func (n *Node) doors() string { return filepath.Join(n.cfg.DataDir, "serve") }

// keepServing keeps the containers that serve between their tasks. The function
// that it returns ends them; no attempt may run then.
func (n *Node) keepServing() (dismiss func()) {
	ctx, end := context.WithCancel(context.Background())
	var keeper sync.WaitGroup
	keeper.Go(func() { n.served.Run(ctx) })
	return func() { end(); keeper.Wait() }
}

// serve runs an attempt of an http or lambda function in a container that has
// served before, or in a new one.
//
// Such a container dies with its agent, whose sockets its program speaks to. The
// next agent cannot know what came of the task, and says so; it is then run again.
func (n *Node) serve(ctx context.Context, a *attempt, out *functions.Outcome) {
	a.output.feed(n.cfg.Link.LogLines, a.news.offerLine)
	if a.adopted && !a.state.StartedAt.IsZero() {
		out.Failure = &functions.Failure{Class: functions.Infra, Phase: functions.PhaseRun,
			Message: "the node's agent ended while the container served the task"}
		return
	}
	a.state = state{}
	var r serve.Request
	out.Failure = n.timed(ctx, a, functions.PhaseStage, func() (f *functions.Failure) {
		r, f = n.requestOf(ctx, a)
		return f
	})
	if out.Failure != nil {
		return
	}
	stdout, stderr := a.output.streams()
	words := serve.Words{Stdout: stdout, Stderr: stderr}
	for try := 1; ; try++ {
		i, cold, fail := n.instanceFor(ctx, a, words)
		if fail != nil {
			out.Failure = fail
			return
		}
		out.Container, a.state.Warm = string(i.ID), !cold
		n.ranOn(a, i.ID)
		var res serve.Response
		var fault *serve.Fault
		out.Failure = n.timed(ctx, a, functions.PhaseRun, func() *functions.Failure {
			res, fault = n.invoke(ctx, a, i, r, words)
			if fault != nil {
				return &fault.Failure
			}
			return nil
		})
		n.served.Done(i, out.Failure)
		if fault != nil && !fault.Delivered && !cold && try < serveTries && ctx.Err() == nil {
			a.displaced()
			a.state.Phases = a.state.Phases[:len(a.state.Phases)-1] // it never ran
			continue
		}
		if out.Failure != nil {
			out.ExitCode = out.Failure.ExitCode
			return
		}
		out.Failure = n.timed(ctx, a, functions.PhaseCollect, func() *functions.Failure { return n.keepAnswer(ctx, a, res, out) })
		return
	}
}

// requestOf makes the invocation of an attempt. Inputs are not brought: they stay
// references.
func (n *Node) requestOf(ctx context.Context, a *attempt) (serve.Request, *functions.Failure) {
	if n.cfg.Entry == "" {
		return serve.Request{}, &functions.Failure{Class: functions.Infra, Message: "this node cannot run functions of contract " + string(a.spec.Contract),
			Hint: "its spillway was built without the entry program: build it with make build"}
	}
	event, f := n.event(ctx, a)
	if f != nil {
		return serve.Request{}, f
	}
	r := serve.Request{Task: a.key.task, Attempt: a.key.attempt, Timeout: a.spec.Timeout.Std(), Body: event, Source: serve.SourceOf(event)}
	if r.Source == nil && len(a.Assignment.Task.Inputs) > 0 {
		r.Body = withInputs(a.Assignment, event)
	}
	return r, nil
}

// withInputs adds the references of the inputs to an event that is an object, as
// its member _task. Other events are what they are.
func withInputs(as functions.Assignment, event []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(event, &members) != nil || members == nil {
		return event
	}
	e := envelopeOf(as, nil)
	for i := range e.Inputs {
		e.Inputs[i].Path = "" // there are no files
	}
	about, err := json.Marshal(map[string]any{"id": e.Task, "attempt": e.Attempt, "inputs": e.Inputs})
	if err != nil {
		return event
	}
	members["_task"] = about
	if with, err := json.Marshal(members); err == nil {
		return with
	}
	return event
}

// instanceFor takes a container that waits, or starts one.
func (n *Node) instanceFor(ctx context.Context, a *attempt, words serve.Words) (i *serve.Instance, cold bool, fail *functions.Failure) {
	k := a.serveKey()
	if i := n.served.Take(ctx, k); i != nil {
		return i, false, nil
	}
	fail = n.timed(ctx, a, functions.PhasePull, func() *functions.Failure { return n.pull(ctx, a) })
	if fail != nil {
		return nil, true, fail
	}
	fail = n.timed(ctx, a, functions.PhaseLaunch, func() *functions.Failure {
		n.makeRoom()
		if f := n.readyGPUs(ctx, a); f != nil {
			return f
		}
		k = a.serveKey() // it may have got another GPU
		var err error
		i, err = n.served.Start(ctx, n.planOf(a), k, a.key.task, words)
		return n.startFailure(a, err)
	})
	return i, true, fail
}

// invoke hands the event out. The note comes before: an agent that dies in
// between must not let the next one run the task as if nothing had been.
func (n *Node) invoke(ctx context.Context, a *attempt, i *serve.Instance, r serve.Request, words serve.Words) (serve.Response, *serve.Fault) {
	a.state.StartedAt = n.cfg.Now()
	if err := a.folder.note(entry{State: &a.state}); err != nil {
		return serve.Response{}, &serve.Fault{Failure: *diskFailure("write down the start", err), Delivered: true}
	}
	res, err := i.Invoke(ctx, r, words)
	return res, serve.FaultOf(err)
}

// startFailure says what an error of a start means.
func (n *Node) startFailure(a *attempt, err error) *functions.Failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*serve.Fault](err); ok {
		return &f.Failure
	}
	return n.launchFailure(a, err)
}

func (a *attempt) serveKey() serve.Key {
	f := a.Assignment.Function
	return serve.Key{Function: f.Name, Version: f.Version, Made: f.CreatedAt.UnixNano(), Device: a.Assignment.Device, GPUs: strings.Join(a.Leased, ",")}
}

// noKey is of no container.
var noKey serve.Key

// makeRoom ends containers that wait where what admitted attempts may take does
// not fit beside them.
func (n *Node) makeRoom() {
	n.mu.Lock()
	free := n.cfg.Capacity.Sub(n.used).Memory
	n.mu.Unlock()
	n.served.Fit(max(0, free))()
}

// planOf says what container an attempt's function is served by. It does no I/O.
func (n *Node) planOf(a *attempt) serve.Plan {
	s, f := a.spec, a.Assignment.Function
	c := containerOf(s, containerUser())
	c.Name = "spillway-serve-" + strings.ToLower(rand.Text()[:12])
	c.Env = servedEnvironment(a.Assignment, s, a.devices, c.Name)
	c.Tmpfs = []runtime.Tmpfs{{Target: "/tmp", Size: min(s.Limits.Disk, s.Limits.Memory)}}
	c.GPUs, c.KnownGPUs = engineIDs(a.devices), knownGPUs(n.look.reading(), a.devices)
	c.Labels = map[string]string{
		runtime.LabelNode:  string(n.cfg.ID),
		runtime.LabelServe: keyOf(f).String(),
	}
	return serve.Plan{Function: f, Spec: s, GPU: a.onGPU(), Container: c}
}
