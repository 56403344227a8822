package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	callTime = 15 * time.Second // of one call, as Standard Webhooks advises
	mostKept = 5                // tries that a delivery remembers
)

// pauses are how long it waits after each try that failed: a day and a half in all.
var pauses = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 18 * time.Hour,
}

// message is the body of a call.
type message struct {
	Type      string           `json:"type"` // task.succeeded, task.failed and so on
	Timestamp time.Time        `json:"timestamp"`
	TaskID    functions.TaskID `json:"task_id"`
	Data      json.RawMessage  `json:"data"`
}

// try makes one call and returns the delivery after it.
func (w *Webhooks) try(ctx context.Context, d functions.Delivery) functions.Delivery {
	t, err := w.cfg.Tasks.Task(ctx, d.Task)
	switch {
	case errors.Is(err, functions.ErrNotFound):
		d.Next, d.GaveUp = time.Time{}, "the task is not known any more"
		return d
	case err == nil && (!t.State.Final() || !t.FinishedAt.Equal(d.EndedAt)):
		d.Next, d.GaveUp = time.Time{}, "the task was begun again meanwhile; its next end is told"
		return d
	}
	began := w.cfg.Now()
	try := functions.DeliveryTry{At: began.UTC()}
	var pause time.Duration
	if err == nil {
		try.Status, pause, err = w.call(ctx, &t, d)
	}
	try.MS = float64(w.cfg.Now().Sub(began)) / float64(time.Millisecond)
	if err != nil {
		try.Error = err.Error()
	}
	d = after(d, try, pause, errors.Is(err, functions.ErrInvalid) || errors.Is(err, functions.ErrForbidden))
	w.figures.tried(d)
	w.cfg.Logger.Info("webhook called", "task", d.Task, "try", d.Count, "status", try.Status, "err", err, "next", d.Next, "gave_up", d.GaveUp)
	return d
}

func (w *Webhooks) call(ctx context.Context, t *functions.Task, d functions.Delivery) (int, time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTime, functions.ErrTimeout)
	defer cancel()
	data, err := w.cfg.Render(ctx, t)
	if err != nil {
		return 0, 0, err
	}
	now := w.cfg.Now()
	body, err := json.Marshal(message{Type: "task." + string(t.State), Timestamp: now.UTC(), TaskID: t.ID, Data: data})
	if err != nil {
		return 0, 0, err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	w.cfg.Secret.sign(header, d.ID, now, body)
	return w.cfg.Poster.Post(ctx, d.URL, header, body)
}

// after decides what follows a try. hopeless: no further call can be made at all.
func after(d functions.Delivery, try functions.DeliveryTry, pause time.Duration, hopeless bool) functions.Delivery {
	d.Count++
	d.Tries = append(slices.Clone(d.Tries), try)
	if n := len(d.Tries) - mostKept; n > 0 {
		d.Tries = slices.Delete(d.Tries, 0, n)
	}
	d.Next = time.Time{}
	switch {
	case try.Error == "" && try.Status >= 200 && try.Status < 300:
		d.Delivered = try.At
	case hopeless:
		d.GaveUp = "the URL may not be called: " + try.Error
	case try.Status == http.StatusGone:
		d.GaveUp = "the server answered 410: it wants no more"
	case d.Count > len(pauses):
		d.GaveUp = fmt.Sprintf("%d tries have failed", d.Count)
	default:
		d.Next = try.At.Add(max(pauses[d.Count-1], pause))
	}
	return d
}
