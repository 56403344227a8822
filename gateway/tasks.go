package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// taskOf reads the task that the path names, by its id or the beginning of it.
func (g *Gateway) taskOf(ctx context.Context, r *http.Request) (functions.Task, error) {
	id := functions.TaskID(strings.ToLower(pathValue(r, "id")))
	if id.Validate() == nil {
		return g.cfg.Tasks.Task(ctx, id)
	}
	const shortest = 4 // digits of an id that a person may shorten it to
	if len(id) < shortest {
		return functions.Task{}, functions.Invalid("bad_task_id", "%.80q is not a task id", string(id)).WithHint("write at least %d digits of it", shortest)
	}
	return g.cfg.Tasks.Find(ctx, string(id))
}

// getTask shows a task, with ?wait= once it has ended or the wait is over.
func (g *Gateway) getTask(w http.ResponseWriter, r *http.Request) error {
	t, err := g.awaited(r)
	if err != nil {
		return err
	}
	v, err := g.full(r.Context(), &t)
	if err != nil {
		return fmt.Errorf("show task: %w", err)
	}
	// The tag names the last event and the live status: progress alone and fresh
	// download URLs do not change it.
	tag := fmt.Sprintf(`W/"%d-%s"`, t.Seq, v.Status)
	w.Header().Set("ETag", tag)
	g.taskHeaders(w.Header(), &t)
	if !r.URL.Query().Has("wait") && matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return writeJSON(w, http.StatusOK, v)
}

// matches implements the weak comparison of RFC 9110, 13.1.2.
func matches(header, tag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		one = strings.TrimSpace(one)
		if one == "*" || one != "" && strings.TrimPrefix(one, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

// awaited returns the task of the path, after its end when ?wait= asks for that.
func (g *Gateway) awaited(r *http.Request) (functions.Task, error) {
	t, err := g.taskOf(r.Context(), r)
	if err != nil || t.State.Final() || !r.URL.Query().Has("wait") {
		return t, err
	}
	d, err := seconds("wait", r.URL.Query().Get("wait"))
	if err != nil {
		return t, err
	}
	return g.waitEnd(r.Context(), t, nil, false, d)
}

// result answers what the function answered.
func (g *Gateway) result(w http.ResponseWriter, r *http.Request) error {
	t, err := g.awaited(r)
	if err != nil {
		return err
	}
	g.taskHeaders(w.Header(), &t)
	if !t.State.Final() {
		w.Header().Set("Retry-After", "2")
		return functions.Conflict("not_finished", "task %s is %s and has no result yet", t.ID, g.status(&t)).
			WithHint("wait for it with ?wait=30s, or follow /v1/tasks/%s/events", t.ID)
	}
	return g.answer(w, r, &t)
}

// output redirects to a fresh download URL of one output.
func (g *Gateway) output(w http.ResponseWriter, r *http.Request) error {
	t, err := g.taskOf(r.Context(), r)
	if err != nil {
		return err
	}
	name := pathValue(r, "name")
	if err := functions.OutputName(name); err != nil {
		return err
	}
	if t.Outcome != nil {
		for _, o := range t.Outcome.Outputs {
			if o.Name != name {
				continue
			}
			if !t.Purged.Outputs.IsZero() {
				return expired(&t, functions.StoredOutputs)
			}
			to, err := g.cfg.Objects.PresignGet(r.Context(), o.ObjectRef, downloadTTL, baseName(name))
			if err != nil {
				return fmt.Errorf("sign the output's URL: %w", err)
			}
			w.Header().Set("Location", to.URL)
			w.WriteHeader(http.StatusSeeOther)
			return nil
		}
	}
	return functions.NotFound("no_such_output", "task %s has no output %.200q", t.ID, name).WithHint("its outputs are listed at /v1/tasks/%s", t.ID)
}

type taskList struct {
	Tasks      []taskView `json:"tasks"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

func (g *Gateway) listTasks(w http.ResponseWriter, r *http.Request) error {
	q, err := taskQuery(r.URL.Query())
	if err != nil {
		return err
	}
	page, err := g.cfg.Tasks.List(r.Context(), q)
	if err != nil {
		return fmt.Errorf("list tasks: %w", err)
	}
	out := taskList{Tasks: make([]taskView, len(page.Tasks)), NextCursor: page.Next}
	for i := range page.Tasks {
		out.Tasks[i] = g.view(&page.Tasks[i])
	}
	if page.Next != "" {
		next := r.URL.Query()
		next.Set("cursor", page.Next)
		w.Header().Set("Link", "</v1/tasks?"+next.Encode()+`>; rel="next"`)
	}
	return writeJSON(w, http.StatusOK, out)
}

// taskQuery reads the filters of a list. An unknown one is an error: a filter
// that silently does nothing shows the wrong tasks.
func taskQuery(v url.Values) (q functions.TaskQuery, err error) {
	bad := func(field, format string, args ...any) error {
		return functions.Invalid("bad_query", "%s: "+format, append([]any{field}, args...)...).WithField(field)
	}
	for key, values := range v {
		value := values[len(values)-1]
		if value == "" {
			continue
		}
		switch key {
		case "function":
			q.Function = functions.Name(value)
			err = q.Function.Validate()
		case "status":
			q.States, err = states(values)
		case "node":
			q.Node = functions.NodeID(value)
			err = q.Node.Validate()
		case "device":
			if q.Device = functions.Device(value); q.Device != functions.GPU && q.Device != functions.CPU {
				err = bad(key, "%.40q is not gpu or cpu", value)
			}
		case "source":
			q.Source = value
		case "fallback":
			q.Fallback = functions.Class(value)
		case "id":
			q.IDPrefix = value
		case "cursor":
			q.Cursor = value
		case "since":
			q.Since, err = instant(key, value)
		case "until":
			q.Until, err = instant(key, value)
		case "limit":
			if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 || q.Limit > 1000 {
				err = bad(key, "%.40q is not a number from 1 to 1000", value)
			}
		default:
			err = functions.Invalid("bad_query", "%.80q is not a filter", key).
				WithHint("use function, status, node, device, source, fallback, since, until, id, limit, cursor").WithField(key)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

func states(values []string) (out []functions.State, err error) {
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			s := functions.State(strings.TrimSpace(one))
			if s == "running" { // the live name of most assigned tasks
				s = functions.Assigned
			}
			if !slices.Contains(functions.States, s) {
				return nil, functions.Invalid("bad_query", "%.40q is not a status", one).WithHint("use %v", functions.States).WithField("status")
			}
			out = append(out, s)
		}
	}
	return out, nil
}

func instant(field, s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, functions.Invalid("bad_time", "%.40q is not a time", s).WithHint("write RFC 3339, such as 2026-01-31T12:00:00Z").WithField(field)
	}
	return t, nil
}
