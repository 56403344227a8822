package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func tasksCommand(app App, f *flags) *cobra.Command {
	var fn, node, device, fallback, since string
	var states []string
	var limit int
	cmd := &cobra.Command{
		Use:   "tasks",
		Short: "List tasks, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			for k, v := range map[string]string{"function": fn, "node": node, "device": device, "fallback": fallback, "status": strings.Join(states, ",")} {
				if v != "" {
					q.Set(k, v)
				}
			}
			if since != "" {
				d, err := time.ParseDuration(since)
				if err != nil {
					return fmt.Errorf("%w: --since %q is not a duration such as 1h", errUsage, since)
				}
				q.Set("since", time.Now().Add(-d).UTC().Format(time.RFC3339Nano))
			}
			var page struct{ Tasks []json.RawMessage }
			raw, err := c.get(cmd.Context(), "/v1/tasks?"+q.Encode(), &page)
			if err != nil {
				return err
			}
			out, err := taskList(page.Tasks)
			if err != nil {
				return err
			}
			out.raw = raw
			return out.print(app.Out, f.output)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&fn, "function", "", "only this function")
	fl.StringSliceVar(&states, "status", nil, "only these states, such as queued,failed")
	fl.StringVar(&node, "node", "", "only this node")
	fl.StringVar(&device, "device", "", "only gpu or cpu")
	fl.StringVar(&fallback, "fallback", "", "only tasks respawned on the CPU for this cause; any = for any cause")
	fl.StringVar(&since, "since", "", "only tasks younger than this, such as 1h")
	fl.IntVar(&limit, "limit", 50, "at most this many")
	return cmd
}

func taskList(items []json.RawMessage) (list, error) {
	out := list{
		items:   items,
		headers: []string{"TASK", "FUNCTION", "STATUS", "ASKED", "USED", "ATTEMPTS", "AGE", "WHY", "MS"},
		wide:    8,
	}
	for _, it := range items {
		var t taskView
		if err := decode(it, &t); err != nil {
			return list{}, err
		}
		out.names = append(out.names, "task/"+string(t.ID))
		out.rows = append(out.rows, []string{
			string(t.ID), string(t.Function), t.Status, t.DeviceRequested, string(t.DeviceUsed),
			strconv.Itoa(len(t.Attempts)), ago(t.CreatedAt), clip(t.why(), 70), t.phases(),
		})
	}
	return out, nil
}

func taskCommand(app App, f *flags) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "task ID",
		Short: "Show one task with its attempts",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			return showTask(cmd.Context(), app, f, c, args[0], wait)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it ends; exit 8 when it does not succeed")
	return cmd
}

// showTask prints a task, after its end when wait is set.
func showTask(ctx context.Context, app App, f *flags, c *client, id string, wait bool) error {
	var t taskView
	var raw json.RawMessage
	for {
		path := "/v1/tasks/" + url.PathEscape(id)
		if wait {
			path += "?wait=30s"
		}
		var err error
		t = taskView{}
		if raw, err = c.get(ctx, path, &t); err != nil {
			return err
		}
		if !wait || t.ended() {
			break
		}
	}
	if quiet(f.output) {
		if err := (list{raw: raw, names: []string{"task/" + string(t.ID)}}).print(app.Out, f.output); err != nil {
			return err
		}
	} else {
		printTask(app, t)
	}
	if wait {
		return t.failed()
	}
	return nil
}

func printTask(app App, t taskView) {
	line := func(k, format string, args ...any) {
		fmt.Fprintf(app.Out, "%-12s"+format+"\n", append([]any{k}, args...)...)
	}
	line("task", "%s", t.ID)
	line("function", "%s version %d", t.Function, t.Version)
	line("status", "%s", t.Status)
	line("device", "asked %s, used %s", t.DeviceRequested, t.DeviceUsed)
	line("why", "%s", t.why())
	if t.Route.ContentType != "" {
		line("content", "%s", t.Route.ContentType)
	}
	if p := t.phases(); p != "" {
		line("ms", "%s", p)
	}
	if t.Failure != nil && t.Failure.Hint != "" {
		line("hint", "%s", t.Failure.Hint)
	}
	for _, a := range t.Attempts {
		end := "running"
		switch {
		case a.Failure != nil:
			end = string(a.Failure.Class) + ": " + a.Failure.Message
		case !a.EndedAt.IsZero():
			end = "succeeded"
		}
		line(fmt.Sprintf("attempt %d", a.Number), "%s on %s: %s", a.Device, a.Node, end)
		if a.Then != "" {
			line("", "then: %s", a.Then)
		}
	}
	for _, o := range t.Outputs {
		line("output", "%s (%d bytes) %s", o.Name, o.Size, o.DownloadURL)
	}
}

func cancelCommand(app App, f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID...",
		Short: "Cancel tasks, queued or running",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachTask(cmd, app, f, args, "cancel", nil)
		},
	}
}

func retryCommand(app App, f *flags) *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use:   "retry ID...",
		Short: "Run ended tasks again, keeping their ids",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body any
			if device != "" {
				body = map[string]string{"device": device}
			}
			return eachTask(cmd, app, f, args, "retry", body)
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "on this device only: gpu or cpu")
	return cmd
}

// eachTask posts one verb to each task and lists them as they are after it.
func eachTask(cmd *cobra.Command, app App, f *flags, ids []string, verb string, body any) error {
	c, err := newClient(app, f)
	if err != nil {
		return err
	}
	var items []json.RawMessage
	for _, id := range ids {
		raw, err := c.call(cmd.Context(), http.MethodPost, "/v1/tasks/"+url.PathEscape(id)+"/"+verb, body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", verb, id, err)
		}
		items = append(items, raw)
	}
	out, err := taskList(items)
	if err != nil {
		return err
	}
	if out.raw, err = json.Marshal(items); err != nil {
		return err
	}
	return out.print(app.Out, f.output)
}
