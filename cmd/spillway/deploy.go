package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/tasklog"
	"github.com/spillway/spillway/gateway/ingest"
)

// deployer is the registry as the gateway sees it: deploying a function also
// makes the buckets that it watches or writes to, and has the store report on them;
// deleting one forgets what AWS Lambda's API keeps of it.
type deployer struct {
	*tasklog.Registry
	store    *objects.Store
	ingest   *ingest.Ingest
	marks    *tasklog.Marks
	settings *tasklog.LambdaSettings
	targets  []string // notification targets of an external store
}

// Deploy makes the spec the version in force. Buckets come first: a function
// that is in force watches buckets that are there. A store that does not report
// to us is no reason to refuse: ingest says so, and listing finds the objects.
func (d *deployer) Deploy(ctx context.Context, spec functions.Spec) (functions.Function, bool, error) {
	for _, t := range spec.Triggers {
		if err := d.store.EnsureBucket(ctx, t.Bucket); err != nil {
			return functions.Function{}, false, fmt.Errorf("make the watched bucket %s: %w", t.Bucket, err)
		}
	}
	for _, to := range slices.Concat(spec.OnSuccess, spec.OnFailure) {
		if to.Bucket == "" {
			continue
		}
		if err := d.store.EnsureBucket(ctx, to.Bucket); err != nil {
			return functions.Function{}, false, fmt.Errorf("make the bucket %s of a destination: %w", to.Bucket, err)
		}
	}
	_, err := d.Latest(spec.Name)
	absent := errors.Is(err, functions.ErrNotFound)
	fn, created, err := d.Registry.Deploy(ctx, spec)
	if err != nil || len(spec.Triggers) == 0 {
		return fn, created, err
	}
	if absent && created && fn.Version > 1 {
		// It was deleted before: what came since then is not its.
		if err := d.marks.Move(ctx, fn.Name, functions.Mark{From: fn.CreatedAt}); err != nil {
			return fn, created, fmt.Errorf("%s is deployed, and its listing may begin too early: %w", fn.Name, err)
		}
	}
	if len(d.targets) > 0 {
		if err := d.ingest.SetNotifications(ctx, d.store, d.targets); err != nil {
			d.ingest.Deployed() // it is tried again in the background
		}
	}
	return fn, created, nil
}

// Delete takes the function out of force. A later function of the same name
// begins with no aliases and no settings.
func (d *deployer) Delete(ctx context.Context, name functions.Name) error {
	if err := d.Registry.Delete(ctx, name); err != nil {
		return err
	}
	if err := d.settings.Delete(ctx, name); err != nil {
		return fmt.Errorf("%s is deleted, and its settings are not: %w", name, err)
	}
	return nil
}
