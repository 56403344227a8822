package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

func tasksCommand(app App, f *flags) *cobra.Command {
	var fn, node, device, fallback, source, since, until, cursor string
	var states []string
	var limit int
	cmd := &cobra.Command{
		Use:   "tasks",
		Short: "List tasks, newest first",
		Example: "  spillway tasks --status queued,running --function thumbnail\n" +
			"  spillway tasks --fallback any --since 24h -o wide\n" +
			"  spillway tasks --status failed -o name | xargs -r spillway retry",
		GroupID: groupTasks,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			for k, v := range map[string]string{
				"function": fn, "node": node, "device": device, "fallback": fallback, "source": source, "cursor": cursor, "status": strings.Join(states, ","),
			} {
				if v != "" {
					q.Set(k, v)
				}
			}
			for k, v := range map[string]string{"since": since, "until": until} {
				if v == "" {
					continue
				}
				at, err := moment(v)
				if err != nil {
					return usage("--%s: %w", k, err)
				}
				q.Set(k, at.UTC().Format(time.RFC3339Nano))
			}
			var page struct {
				Tasks []json.RawMessage
				Next  string `json:"next_cursor"`
			}
			raw, err := c.get(cmd.Context(), "/v1/tasks?"+q.Encode(), &page)
			if err != nil {
				return err
			}
			out, err := taskList(page.Tasks)
			if err != nil {
				return err
			}
			out.raw = raw
			if err := out.print(app, f.output); err != nil {
				return err
			}
			if page.Next != "" && !quiet(f.output) {
				fmt.Fprintf(app.Err, "there are more; see them with a higher --limit, or with --cursor %s\n", page.Next)
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&fn, "function", "", "only this function")
	fl.StringSliceVar(&states, "status", nil, "only these states, such as queued,failed")
	fl.StringVar(&node, "node", "", "only this node")
	fl.StringVar(&device, "device", "", "only tasks that ran last on: gpu or cpu")
	fl.StringVar(&fallback, "fallback", "", "only tasks respawned on the CPU for this cause; any = for any cause")
	fl.StringVar(&source, "source", "", "only tasks that came by: http, cli, upload, seed or s3")
	fl.StringVar(&since, "since", "", "only tasks younger than this: a duration such as 1h, or a time such as 2026-01-31T12:00:00Z")
	fl.StringVar(&until, "until", "", "only tasks older than this")
	fl.StringVar(&cursor, "cursor", "", "go on behind an earlier page")
	fl.IntVar(&limit, "limit", 50, "at most this many, up to 1000")
	suggestFunctions(cmd, "function", app, f)
	suggest(cmd, "device", string(functions.GPU), string(functions.CPU))
	suggest(cmd, "source", "http", "cli", "upload", "seed", "s3")
	var all []string
	for _, s := range functions.States {
		all = append(all, string(s))
	}
	suggest(cmd, "status", all...)
	return cmd
}

// moment reads a time, or a duration back from now.
func moment(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return at, fmt.Errorf("%q is neither a duration such as 1h nor a time such as 2026-01-31T12:00:00Z", s)
	}
	return at, nil
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
		out.names = append(out.names, t.name())
		out.rows = append(out.rows, []string{
			string(t.ID), string(t.Function), t.Status, t.DeviceRequested, string(t.DeviceUsed),
			strconv.Itoa(len(t.Attempts)), ago(t.CreatedAt), clip(t.why(), 70), t.phases(),
		})
	}
	return out, nil
}

func cancelCommand(app App, f *flags) *cobra.Command {
	return &cobra.Command{
		Use:               "cancel ID...",
		Short:             "Cancel tasks, queued or running",
		Example:           "  spillway cancel 019a7c31",
		GroupID:           groupTasks,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: taskIDs(app, f, -1, "&status=awaiting_upload,queued,assigned,deciding"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachTask(cmd, app, f, args, "cancel", nil)
		},
	}
}

func retryCommand(app App, f *flags) *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use:   "retry ID...",
		Short: "Run tasks again that ended without success, keeping their ids",
		Example: "  spillway retry 019a7c31\n" +
			"  spillway retry 019a7c31 --device cpu",
		GroupID:           groupTasks,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: taskIDs(app, f, -1, "&status=failed,timed_out,canceled,expired"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body any
			if device != "" {
				body = map[string]string{"device": device}
			}
			return eachTask(cmd, app, f, args, "retry", body)
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "on this device only: gpu or cpu")
	suggest(cmd, "device", string(functions.GPU), string(functions.CPU))
	return cmd
}

// eachTask posts one verb to each task and lists them as they are after it. It
// stops at the first error, and still lists those before.
func eachTask(cmd *cobra.Command, app App, f *flags, ids []string, verb string, body any) error {
	c, err := newClient(app, f)
	if err != nil {
		return err
	}
	items := []json.RawMessage{}
	var failed error
	for _, id := range ids {
		raw, err := c.call(cmd.Context(), http.MethodPost, taskPath(id)+"/"+verb, body)
		if err != nil {
			failed = fmt.Errorf("%s %s: %w", verb, id, err)
			break
		}
		items = append(items, raw)
	}
	if failed != nil && len(items) == 0 {
		return failed
	}
	out, err := taskList(items)
	if err == nil {
		out.raw, err = json.Marshal(items)
	}
	if err == nil {
		err = out.print(app, f.output)
	}
	return errors.Join(failed, err)
}

// taskPath takes what -o name prints as well as an id.
func taskPath(id string) string {
	return "/v1/tasks/" + url.PathEscape(strings.TrimPrefix(id, "task/"))
}
