package serve

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// mostHeader is the most bytes of headers: a runtime reports where an error
	// happened in one header of up to 1 MiB.
	mostHeader = 1<<20 + 64<<10
	// headerTime bounds the sending of a request's headers. Between requests a
	// connection may idle for ever: a runtime takes its close for an error.
	headerTime = 10 * time.Second
	// closeTime is how long Close waits for answers that are being written.
	closeTime = 100 * time.Millisecond
)

// LambdaConfig is what a runtime is told of its function.
type LambdaConfig struct {
	Function    functions.Name
	Version     int
	ARN         string // sent with each event; empty = not sent
	Concurrency int    // invocations at once; 0 means 1
}

// Lambda is AWS Lambda's Runtime API for one container: the listener is the
// container's identity, so each container has a Lambda of its own. The program
// in the container asks for the next event, and posts its answer.
type Lambda struct {
	cfg    LambdaConfig
	server *http.Server
	end    ending

	mu      sync.Mutex // guards the fields below
	polls   []*poll    // runtimes that wait for an event, the longest first
	flights map[functions.TaskID]*flight
	started bool          // next was called: the program's own start is over
	changed chan struct{} // closed, and replaced, when polls grows
}

// poll is one call of next that waits. give is taken once, by the Invoke that
// has removed the poll from the list.
type poll struct{ give chan *flight }

// flight is an event that was handed out and is not answered.
type flight struct {
	Request
	deadline time.Time
	answer   chan landing // holds one; the first answer counts
}

// landing is how a flight ended.
type landing struct {
	response Response
	fault    *Fault
}

// NewLambda makes a Lambda that serves nobody yet.
func NewLambda(cfg LambdaConfig) *Lambda {
	cfg.Concurrency = max(1, cfg.Concurrency)
	l := &Lambda{cfg: cfg, end: newEnding(), flights: make(map[functions.TaskID]*flight), changed: make(chan struct{})}
	l.server = &http.Server{
		Handler: l.routes(), MaxHeaderBytes: mostHeader, ReadHeaderTimeout: headerTime,
		ErrorLog: log.New(io.Discard, "", 0), // what a container sends is not ours to complain of
	}
	return l
}

// Serve answers the container on its API listener until Close, which closes the
// listener too. It is meant to run in a goroutine of the caller's.
func (l *Lambda) Serve(listener net.Listener) error {
	// A runtime keeps a connection for each invocation, and one or two beside.
	bounded := &boundedListener{Listener: listener, free: make(chan struct{}, 2*l.cfg.Concurrency+16), closed: make(chan struct{})}
	if err := l.server.Serve(bounded); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close stops answering. What is in flight fails.
func (l *Lambda) Close() {
	l.end.set(functions.Failure{Class: functions.Infra, Message: "the container is not used any more"})
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if l.server.Shutdown(ctx) != nil { // a request of the container's still runs
		_ = l.server.Close() // nothing is left to be done about a socket that does not close
	}
}

// End tells of the container's end: what is in flight, and every later
// invocation, fails for that reason.
func (l *Lambda) End(why functions.Failure) { l.end.set(why) }

// Ready returns when the program waits for an event, which ends its start. When
// ctx ends first, the error is a fault that says what was missing.
func (l *Lambda) Ready(ctx context.Context) error {
	for {
		l.mu.Lock()
		waiting, changed := len(l.polls) > 0, l.changed
		l.mu.Unlock()
		if waiting {
			return nil
		}
		select {
		case <-changed:
		case <-l.end.ctx.Done():
			return l.end.fault(false)
		case <-ctx.Done():
			f := fault(functions.BadEntry, "the program did not ask for an event in time")
			f.Hint = "the image must hold a Lambda runtime, which calls the address in AWS_LAMBDA_RUNTIME_API"
			f.Delivered = false
			return f
		}
	}
}

// Invoke hands the event to the program as soon as it asks for one, and waits for
// the answer. A program that is over its concurrency is not asked to wait for.
func (l *Lambda) Invoke(ctx context.Context, r Request) (Response, error) {
	if len(r.Body) > MostBody {
		return Response{}, tooLarge(len(r.Body))
	}
	f, err := l.handOut(ctx, r)
	if err != nil {
		return Response{}, err
	}
	defer l.land(f)
	deadline := time.NewTimer(time.Until(f.deadline))
	defer deadline.Stop()
	select {
	case got := <-f.answer:
		return got.result()
	case <-l.end.ctx.Done():
	case <-deadline.C:
		return Response{}, fault(functions.TimedOutRun, "ran past its limit of %s", functions.Duration(r.Timeout))
	case <-ctx.Done():
		return Response{}, stopped(ctx, r.Timeout, true)
	}
	select {
	case got := <-f.answer: // it had answered before it ended
		return got.result()
	default:
		return Response{}, l.end.fault(true)
	}
}

func (l landing) result() (Response, error) {
	if l.fault != nil {
		return Response{}, l.fault
	}
	return l.response, nil
}

// handOut gives the event to the program that has waited longest.
func (l *Lambda) handOut(ctx context.Context, r Request) (*flight, error) {
	for {
		l.mu.Lock()
		changed := l.changed
		switch {
		case l.end.over():
			l.mu.Unlock()
			return nil, l.end.fault(false)
		case l.flights[r.Task] != nil:
			l.mu.Unlock()
			f := fault(functions.Infra, "task %s is in this container already", r.Task)
			f.Delivered = false
			return nil, f
		case len(l.polls) > 0:
			f := &flight{Request: r, deadline: time.Now().Add(r.Timeout), answer: make(chan landing, 1)}
			l.flights[r.Task] = f
			l.polls[0].give <- f // holds one, and nobody else gives
			l.polls = l.polls[1:]
			l.mu.Unlock()
			return f, nil
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-l.end.ctx.Done():
		case <-ctx.Done():
			return nil, stopped(ctx, r.Timeout, false)
		}
	}
}

// land forgets a flight: a late answer finds no request.
func (l *Lambda) land(f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.flights, f.Task)
}

// complete answers a flight, once. It reports false when nobody waits for id.
func (l *Lambda) complete(id functions.TaskID, got landing) bool {
	l.mu.Lock()
	f := l.flights[id]
	delete(l.flights, id)
	l.mu.Unlock()
	if f == nil {
		return false
	}
	f.answer <- got // holds one, and only one may take the flight from the map
	return true
}

// wait enters a call of next. It reports false when the program has as many
// events as it may.
func (l *Lambda) wait() (*poll, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = true
	if len(l.flights) >= l.cfg.Concurrency {
		return nil, false
	}
	p := &poll{give: make(chan *flight, 1)}
	l.polls = append(l.polls, p)
	close(l.changed)
	l.changed = make(chan struct{})
	return p, true
}

// leave ends a call of next whose connection has gone. An event that it was given
// meanwhile is lost with it.
func (l *Lambda) leave(p *poll) {
	l.mu.Lock()
	for i, other := range l.polls {
		if other == p {
			l.polls = append(l.polls[:i:i], l.polls[i+1:]...)
			l.mu.Unlock()
			return
		}
	}
	l.mu.Unlock()
	select {
	case f := <-p.give:
		l.complete(f.Task, landing{fault: fault(functions.Crashed, "the program hung up while it was given the event")})
	default:
	}
}

// waits reports whether a flight with the id is in the air.
func (l *Lambda) waits(id functions.TaskID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flights[id] != nil
}
