package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func taskCommand(app App, f *flags) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "task ID",
		Short: "Show one task with its attempts",
		Long:  "Show one task with its attempts. The beginning of an id is enough where it is the only one.",
		Example: "  spillway task 019a7c31\n" +
			"  spillway task 019a7c31 --wait --timeout 10m -o json",
		GroupID:           groupTasks,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: taskIDs(app, f, 1, ""),
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
	var err error
	if wait {
		t, raw, err = waitTask(ctx, app, f, c, id, time.Time{})
	} else {
		raw, err = c.get(ctx, taskPath(id), &t)
	}
	if err != nil {
		return err
	}
	if quiet(f.output) {
		err = list{raw: raw, names: []string{t.name()}}.print(app, f.output)
	} else {
		err = printTask(app.Out, t)
	}
	if err == nil && wait {
		err = t.failed()
	}
	return err
}

// waitStep is how long one request waits. It is also how often a person hears
// what the task waits for.
const waitStep = 10 * time.Second

// waitTask waits for a task's end, until the given time when that is not zero,
// and returns the task as it then is. What changes meanwhile is said on the
// error stream.
func waitTask(ctx context.Context, app App, f *flags, c *client, id string, until time.Time) (t taskView, raw json.RawMessage, err error) {
	said := ""
	for {
		step := waitStep
		if said == "" { // the first answer comes at once, so that the state can be told
			step = 0
		}
		if !until.IsZero() {
			step = max(0, min(step, time.Until(until)))
		}
		t = taskView{}
		if raw, err = c.get(ctx, taskPath(id)+"?wait="+step.Round(time.Millisecond).String(), &t); err != nil {
			return t, raw, err
		}
		if t.ended() || !until.IsZero() && !time.Now().Before(until) {
			return t, raw, nil
		}
		now := t.Status
		if t.Waiting != nil {
			now += ": " + t.Waiting.Reason
		} else if p := t.pulling(); p != "" {
			now += ": " + p
		}
		if now != said && !quiet(f.output) {
			fmt.Fprintf(app.Err, "task %s is %s\n", t.ID, now)
		}
		said = now
	}
}

func printTask(w io.Writer, t taskView) error {
	var err error
	line := func(k, format string, args ...any) {
		if _, e := fmt.Fprintf(w, "%-12s"+format+"\n", append([]any{k}, args...)...); err == nil {
			err = e
		}
	}
	line("task", "%s", t.ID)
	line("function", "%s version %d", t.Function, t.Version)
	line("status", "%s", t.Status)
	used := "none yet"
	if t.DeviceUsed != "" {
		used = string(t.DeviceUsed)
	}
	line("device", "asked %s, used %s", t.DeviceRequested, used)
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
	return err
}
