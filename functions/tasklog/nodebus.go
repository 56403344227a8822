package tasklog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spillway/spillway/functions"
)

// NodeHandler is what a node does when it is asked. Its errors reach the caller
// with their class. Its methods are called at once.
type NodeHandler interface {
	Admit(ctx context.Context, a functions.Assignment) error
	Kill(ctx context.Context, k functions.Kill) error
	// ReadLog returns lines with numbers over afterLine, oldest first; it need not return all.
	ReadLog(ctx context.Context, task functions.TaskID, attempt int, afterLine int64) ([]functions.LogLine, error)
	// Readmit ends the quarantine or the ejection of the GPU that uuid names, or of
	// all when it is empty; ErrNotFound when there is none.
	Readmit(ctx context.Context, uuid string) error
}

// The verbs of node subjects.
const (
	verbRun     = "run"
	verbKill    = "kill"
	verbLog     = "log"
	verbReadmit = "readmit"
)

// readmitRequest names a GPU; empty means all of the node's.
type readmitRequest struct {
	UUID string `json:"uuid,omitempty"`
}

// logRequest asks for a part of an attempt's log; logPart is the answer.
type logRequest struct {
	Task    functions.TaskID `json:"task"`
	Attempt int              `json:"attempt"`
	After   int64            `json:"after"`
}

type logPart struct {
	Lines []functions.LogLine `json:"lines"`
	More  bool                `json:"more,omitempty"`
}

// ServeNode answers for node id until ctx ends and its handlers are done. A
// slow Admit does not hold up a Kill.
func (l *Log) ServeNode(ctx context.Context, id functions.NodeID, h NodeHandler) error {
	const most = 64 // requests of a kind at once
	if err := id.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	verbs := map[string]answerer{verbRun: admitting(h), verbKill: killing(h), verbLog: reading(h), verbReadmit: readmitting(h)}
	ended := make(chan error, len(verbs))
	for verb, handle := range verbs {
		go func() { ended <- l.answer(ctx, nodeSubject(id, verb), most, handle) }()
	}
	var errs error
	for range verbs {
		errs = errors.Join(errs, <-ended)
		cancel() // all end together
	}
	return errs
}

// answerer handles one kind of request.
type answerer func(ctx context.Context, data []byte) (any, error)

func admitting(h NodeHandler) answerer {
	return func(ctx context.Context, data []byte) (any, error) {
		var a functions.Assignment
		if err := json.Unmarshal(data, &a); err != nil {
			return nil, unreadable(err)
		}
		return nil, h.Admit(ctx, a)
	}
}

func killing(h NodeHandler) answerer {
	return func(ctx context.Context, data []byte) (any, error) {
		var k functions.Kill
		if err := json.Unmarshal(data, &k); err != nil {
			return nil, unreadable(err)
		}
		return nil, h.Kill(ctx, k)
	}
}

func reading(h NodeHandler) answerer {
	return func(ctx context.Context, data []byte) (any, error) {
		var q logRequest
		if err := json.Unmarshal(data, &q); err != nil {
			return nil, unreadable(err)
		}
		lines, err := h.ReadLog(ctx, q.Task, q.Attempt, q.After)
		if err != nil {
			return nil, err
		}
		n := fit(lines)
		return logPart{Lines: lines[:n], More: n < len(lines)}, nil
	}
}

func readmitting(h NodeHandler) answerer {
	return func(ctx context.Context, data []byte) (any, error) {
		var q readmitRequest
		if err := json.Unmarshal(data, &q); err != nil {
			return nil, unreadable(err)
		}
		return nil, h.Readmit(ctx, q.UUID)
	}
}

func unreadable(err error) error {
	return functions.Invalid("bad_request", "the request cannot be read").WithCause(err)
}

// fit is how many lines, at least one, go into a message. JSON can make a byte
// of text up to six.
func fit(lines []functions.LogLine) int {
	const perLine = 200 // bytes around the text
	size := 0
	for i, line := range lines {
		size += 6*len(line.Text) + perLine
		if size > maxEventBytes && i > 0 {
			return i
		}
	}
	return len(lines)
}

// Run orders a node to run an attempt. A node that is not connected is
// ErrUnavailable; one that does not answer is ErrTimeout, and may have admitted
// the attempt.
func (l *Log) Run(ctx context.Context, id functions.NodeID, a functions.Assignment) error {
	return l.order(ctx, id, verbRun, a, nil)
}

// Kill orders a node to stop an attempt. Errors are as of Run.
func (l *Log) Kill(ctx context.Context, id functions.NodeID, k functions.Kill) error {
	return l.order(ctx, id, verbKill, k, nil)
}

// Readmit orders a node to offer a GPU again that it has quarantined or ejected;
// an empty uuid means all of its GPUs. Errors are as of Run, and ErrNotFound.
func (l *Log) Readmit(ctx context.Context, id functions.NodeID, uuid string) error {
	return l.order(ctx, id, verbReadmit, readmitRequest{uuid}, nil)
}

// ReadLog returns what a node holds of an attempt's log after line number
// after.
func (l *Log) ReadLog(ctx context.Context, id functions.NodeID, task functions.TaskID, attempt int, after int64) ([]functions.LogLine, error) {
	var all []functions.LogLine
	for {
		var part logPart
		if err := l.order(ctx, id, verbLog, logRequest{task, attempt, after}, &part); err != nil {
			return nil, err
		}
		all = append(all, part.Lines...)
		if !part.More || len(part.Lines) == 0 {
			return all, nil
		}
		after = part.Lines[len(part.Lines)-1].N
	}
}

func (l *Log) order(ctx context.Context, id functions.NodeID, verb string, request, value any) error {
	if err := id.Validate(); err != nil {
		return err
	}
	return l.call(ctx, fmt.Sprintf("node %s", id), nodeSubject(id, verb), request, value)
}
