package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

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
