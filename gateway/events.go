package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	sseRetry   = 2000             // ms until a browser connects again
	sseComment = 15 * time.Second // between comments that keep proxies from cutting a quiet stream
	sseWrite   = 10 * time.Second // for one write; a reader that takes longer is dropped
)

// stream writes server-sent events. Each is flushed, under a deadline.
type stream struct {
	w   http.ResponseWriter
	ctl *http.ResponseController
}

func newStream(w http.ResponseWriter, contentType string) *stream {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	return &stream{w: w, ctl: http.NewResponseController(w)}
}

func (s *stream) write(b []byte) error {
	if err := s.ctl.SetWriteDeadline(time.Now().Add(sseWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if _, err := s.w.Write(b); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := s.ctl.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("flush event: %w", err)
	}
	return nil
}

// event sends one event; an id of 0 leaves the last one in force.
func (s *stream) event(name string, id uint64, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	var b bytes.Buffer
	if id != 0 {
		fmt.Fprintf(&b, "id: %d\n", id)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", name, data)
	return s.write(b.Bytes())
}

// events streams a task's life: state (the whole task; its id is the log
// sequence), progress, and end, after which nothing follows. A client that comes
// back with Last-Event-ID gets the task as it is now if it has changed since.
func (g *Gateway) events(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	t, err := g.taskOf(ctx, r)
	if err != nil {
		return err
	}
	updates, leave := g.Feed.Subscribe(t.ID)
	defer leave()
	if t, err = g.cfg.Tasks.Task(ctx, t.ID); err != nil { // again, now that nothing can be missed
		return err
	}
	last, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64) // what is no number was never sent by us
	if t.State.Final() && last >= t.Seq {
		w.WriteHeader(http.StatusNoContent) // tells an EventSource to stay away
		return nil
	}
	s := newStream(w, "text/event-stream")
	if r.Method == http.MethodHead {
		return nil
	}
	if err := s.write(fmt.Appendf(nil, "retry: %d\n\n", sseRetry)); err != nil {
		return err
	}
	if t.Seq > last {
		if err := s.event("state", t.Seq, g.view(&t)); err != nil {
			return err
		}
	}
	sent := t.Seq
	quiet := time.NewTicker(sseComment)
	defer quiet.Stop()
	for !t.State.Final() {
		select {
		case u, ok := <-updates:
			if !ok {
				return nil // too slow; it may come back with Last-Event-ID
			}
			if u.Task != nil && u.Task.Seq > sent {
				t, sent = *u.Task, u.Task.Seq
				err = s.event("state", t.Seq, g.view(&t))
			} else if u.Progress != nil && t.State == functions.Assigned && u.Progress.Attempt == t.Attempt {
				err = s.event("progress", 0, u.Progress)
			}
		case <-quiet.C:
			err = s.write([]byte(": still here\n\n"))
		case <-ctx.Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
	return s.event("end", t.Seq, map[string]any{"id": t.ID, "status": t.State, "seq": t.Seq})
}
