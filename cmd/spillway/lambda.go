package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway"
	"github.com/spillway/spillway/gateway/intake"
	"github.com/spillway/spillway/gateway/lambda"
	"github.com/spillway/spillway/gateway/lambda/sigv4"
)

// buildLambda makes AWS Lambda's API over the same door as the native one.
func (s *server) buildLambda(door *intake.Door, tasks reader) *lambda.API {
	caller := follower{s}
	return lambda.New(lambda.Config{
		Door: door, Functions: s.functions, Registry: s.deployer, Settings: s.deployer.settings, Tasks: tasks, Feed: caller, Control: s.engine, Objects: s.store,
		Nodes: s.scheduler.Nodes, Trust: caller.allowed, QueueWait: s.cfg.LambdaWait, Log: s.log,
		Verify: signed(sigv4.New(awsKeys(s.cfg, s.secrets), time.Now)),
	})
}

// follower lets AWS Lambda's API, which is built before the gateway that mounts
// it, follow tasks and know its callers.
type follower struct{ s *server }

// allowed reports whether a request carries a key of the native API.
func (f follower) allowed(r *http.Request) bool { return f.s.gateway.Allowed(r) }

// Watch follows a task from now on.
func (f follower) Watch(id functions.TaskID) lambda.Watch {
	updates, leave := f.s.gateway.Feed.Subscribe(id)
	return follows{updates, leave}
}

type follows struct {
	updates <-chan gateway.Update
	leave   func()
}

// Next returns the task after its next change; progress is none.
func (w follows) Next(ctx context.Context) (functions.Task, bool, error) {
	for {
		select {
		case u, ok := <-w.updates:
			if !ok {
				return functions.Task{}, false, nil
			}
			if u.Task != nil {
				return *u.Task, true, nil
			}
		case <-ctx.Done():
			return functions.Task{}, false, context.Cause(ctx)
		}
	}
}

func (w follows) Leave() { w.leave() }

// signed checks AWS's signatures with the key of this server.
func signed(v *sigv4.Verifier) func(r *http.Request, body []byte) (accessKey, region string, err error) {
	return func(r *http.Request, body []byte) (string, string, error) {
		id, err := v.Verify(r, body)
		if e, ok := errors.AsType[*sigv4.Error](err); ok {
			err = &lambda.Refusal{Code: e.Code, Message: e.Message, Status: e.Status}
		}
		return id.AccessKeyID, id.Region, err
	}
}
