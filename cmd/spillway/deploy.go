package main

import (
	"context"
	"fmt"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/tasklog"
	"github.com/spillway/spillway/gateway/ingest"
)

// deployer is the registry as the gateway sees it: deploying a function also
// makes the buckets that it watches, and has the store report on them.
type deployer struct {
	*tasklog.Registry
	store  *objects.Store
	ingest *ingest.Ingest
	arn    string // notification target of an external store; empty = none
}

// Deploy makes the spec the version in force. Buckets come first: a function
// that is in force watches buckets that are there.
func (d *deployer) Deploy(ctx context.Context, spec functions.Spec) (functions.Function, bool, error) {
	for _, t := range spec.Triggers {
		if err := d.store.EnsureBucket(ctx, t.Bucket); err != nil {
			return functions.Function{}, false, fmt.Errorf("make the watched bucket %s: %w", t.Bucket, err)
		}
	}
	fn, created, err := d.Registry.Deploy(ctx, spec)
	if err != nil || d.arn == "" || len(spec.Triggers) == 0 {
		return fn, created, err
	}
	if err := d.ingest.SetNotifications(ctx, d.store, []string{d.arn}); err != nil {
		return fn, created, functions.Unavailable("no_notifications", "%s is deployed, and the store does not accept %s as a notification target", spec.Name, d.arn).
			WithHint("configure the target on the store; until then new objects are found by listing").WithCause(err)
	}
	return fn, created, nil
}
