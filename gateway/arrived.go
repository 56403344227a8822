package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
)

// arrived starts a task whose file is in the store: it looks at the object and
// its first bytes, decides the route anew, and logs that it is there. A task that
// awaits nothing is returned as it is.
func (g *Gateway) arrived(ctx context.Context, t functions.Task) (functions.Task, error) {
	if t.State != functions.AwaitingUpload || len(t.Inputs) == 0 {
		return t, nil
	}
	want := t.Inputs[0]
	ref, err := g.cfg.Objects.Stat(ctx, want.Bucket, want.Key, "")
	if errors.Is(err, functions.ErrNotFound) {
		return t, functions.Conflict("not_uploaded", "the file of upload %s is not in the store yet", t.ID).
			WithHint("send it with the signed request of GET /v1/uploads/%s, then complete again", t.ID).WithCause(err)
	}
	if err != nil {
		return t, fmt.Errorf("look for the upload: %w", err)
	}
	if ref.Size != want.Size {
		return t, functions.Conflict("size_mismatch", "the file holds %d bytes, but %d were announced", ref.Size, want.Size).WithHint("start a new upload with the right size")
	}
	head, err := g.head(ctx, ref)
	if err != nil {
		return t, err
	}
	what := content.Detect(head, want.Name, want.ContentType)
	route := what.Route(t.Route.Policy)
	ref.ContentType = what.ContentType
	if ref.SHA256 == "" {
		ref.SHA256 = want.SHA256
	}
	t, _, err = g.ask(ctx, t.ID, "uploaded-"+string(t.ID), functions.Request{
		Verb: functions.Uploaded, By: "upload", Inputs: []functions.Input{{Name: want.Name, ObjectRef: ref}}, Route: &route,
	})
	return t, err
}

// head reads an object's first bytes. It is never nil: the bytes are known.
func (g *Gateway) head(ctx context.Context, ref functions.ObjectRef) ([]byte, error) {
	if ref.Size == 0 {
		return []byte{}, nil
	}
	body, err := g.cfg.Objects.GetRange(ctx, ref, 0, min(ref.Size, content.HeadSize))
	if err != nil {
		return nil, fmt.Errorf("read the upload: %w", err)
	}
	defer body.Close()
	head, err := io.ReadAll(io.LimitReader(body, content.HeadSize))
	if err != nil {
		return nil, fmt.Errorf("read the upload: %w", err)
	}
	return head, nil
}

// Sweep times: how often awaited uploads are looked for, and how long a client
// has to say by itself that its file is there.
const (
	sweepEvery = 30 * time.Second
	sweepAfter = time.Minute
)

// Run looks for files whose upload nobody completed, until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := g.sweep(ctx); err != nil && ctx.Err() == nil {
				g.log.Warn("sweep of uploads stopped early", "err", err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *Gateway) sweep(ctx context.Context) error {
	q := functions.TaskQuery{States: []functions.State{functions.AwaitingUpload}, Until: g.cfg.Now().Add(-sweepAfter), Limit: 200}
	for {
		page, err := g.cfg.Tasks.List(ctx, q)
		if err != nil {
			return fmt.Errorf("list awaited uploads: %w", err)
		}
		for _, t := range page.Tasks {
			_, err := g.arrived(ctx, t)
			switch {
			case err == nil, errors.Is(err, functions.ErrConflict): // not there, or not what was announced
			case errors.Is(err, functions.ErrForbidden), errors.Is(err, functions.ErrInvalid), errors.Is(err, functions.ErrTooLarge):
				g.log.Warn("upload not completed", "task", t.ID, "err", err) // and no reason to keep the others waiting
			default:
				return fmt.Errorf("complete upload %s: %w", t.ID, err)
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Cursor = page.Next
	}
}
