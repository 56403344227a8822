package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

// taskFilter is what a list of tasks is narrowed by.
type taskFilter struct {
	function, node, device, fallback, source string

	since, until string // a duration back from now, or a time
	states       []string
	cursor       string // from an earlier page
	limit        int
}

func tasksCommand(app App, f *flags) *cobra.Command {
	var filter taskFilter
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
			q, err := filter.query()
			if err != nil {
				return err
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
	filter.bind(cmd, app, f)
	return cmd
}

func (t *taskFilter) bind(cmd *cobra.Command, app App, f *flags) {
	fl := cmd.Flags()
	fl.StringVar(&t.function, "function", "", "only this function")
	fl.StringSliceVar(&t.states, "status", nil, "only these states, such as queued,failed")
	fl.StringVar(&t.node, "node", "", "only this node")
	fl.StringVar(&t.device, "device", "", "only tasks that ran last on: gpu or cpu")
	fl.StringVar(&t.fallback, "fallback", "", "only tasks respawned on the CPU for this cause; any = for any cause")
	fl.StringVar(&t.source, "source", "", "only tasks that came by: http, cli, upload, seed or s3")
	fl.StringVar(&t.since, "since", "", "only tasks younger than this: a duration such as 1h, or a time such as 2026-01-31T12:00:00Z")
	fl.StringVar(&t.until, "until", "", "only tasks older than this")
	fl.StringVar(&t.cursor, "cursor", "", "go on behind an earlier page")
	fl.IntVar(&t.limit, "limit", 50, "at most this many, up to 1000")
	suggestFunctions(cmd, "function", app, f)
	suggest(cmd, "device", string(functions.GPU), string(functions.CPU))
	suggest(cmd, "source", "http", "cli", "upload", "seed", "s3")
	var all []string
	for _, s := range functions.States {
		all = append(all, string(s))
	}
	suggest(cmd, "status", all...)
}

func (t *taskFilter) query() (url.Values, error) {
	q := url.Values{"limit": {strconv.Itoa(t.limit)}}
	for k, v := range map[string]string{
		"function": t.function, "node": t.node, "device": t.device, "fallback": t.fallback, "source": t.source,
		"cursor": t.cursor, "status": strings.Join(t.states, ","),
	} {
		if v != "" {
			q.Set(k, v)
		}
	}
	for k, v := range map[string]string{"since": t.since, "until": t.until} {
		if v == "" {
			continue
		}
		at, err := moment(v)
		if err != nil {
			return nil, usage("--%s: %w", k, err)
		}
		q.Set(k, at.UTC().Format(time.RFC3339Nano))
	}
	return q, nil
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
