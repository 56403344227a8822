package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

// maxHold is the longest that one request waits; the gateway allows no more.
const maxHold = time.Minute

func invokeCommand(app App, f *flags) *cobra.Command {
	var in callInput
	var key, outFile string
	var async bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "invoke FUNCTION",
		Short: "Call a function and print its result",
		Long: "Call a function with JSON (-d) or with a file of up to 6 MiB (-f; for larger ones there is spillway upload).\n" +
			"The result goes to standard output as the function gave it; the task and its device go to standard error.\n" +
			"When --wait is over first, the task's id is printed instead, and the exit code is 6 or 124.",
		Example: "  spillway invoke echo -d '{\"hello\":\"world\"}'\n" +
			"  jq .event call.json | spillway invoke echo -d @-\n" +
			"  spillway invoke thumbnail -f holiday.jpg -w thumbnail.json\n" +
			"  spillway invoke transcribe -f talk.ogg --device required --wait 10m",
		GroupID:           groupTasks,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: functionNames(app, f, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			if wait < 0 {
				return usage("--wait %s is negative", wait)
			}
			until := time.Now().Add(wait)
			body, header, err := in.open(app)
			if err != nil {
				return err
			}
			if key != "" {
				header.Set("Idempotency-Key", key)
			}
			path := functionPath(args[0]) + "/invoke?wait=" + min(wait, maxHold).String()
			if async {
				header.Set("Prefer", "respond-async")
			}
			resp, err := c.do(cmd.Context(), http.MethodPost, path, header, body)
			if err != nil {
				return err
			}
			defer func() { resp.Body.Close() }()
			if resp.StatusCode == http.StatusAccepted {
				id, err := accepted(app, f, resp, async)
				if err != nil || async {
					return err
				}
				if err := outlast(cmd.Context(), app, f, c, id, until); err != nil {
					return err
				}
				resp.Body.Close()
				if resp, err = c.do(cmd.Context(), http.MethodGet, taskPath(id)+"/result", nil, nil); err != nil {
					return err
				}
			}
			if !quiet(f.output) {
				fmt.Fprintf(app.Err, "task %s on %s%s\n", resp.Header.Get("Spillway-Task-Id"), resp.Header.Get("Spillway-Device-Used"),
					because(resp.Header.Get("Spillway-Fallback-Reason")))
			}
			return writeResult(app.Out, outFile, resp.Body)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&in.data, "data", "d", "", "JSON event; @FILE reads a file, @- standard input")
	fl.StringVarP(&in.file, "file", "f", "", "send this file as the input")
	fl.StringVar(&in.device, "device", "", "required, preferred, auto or never; default as the function says")
	fl.StringVar(&key, "idempotency-key", "", "a call repeated with this key does not run again: it gets the first one's result")
	fl.StringVarP(&outFile, "write", "w", "", "write the result to this file")
	fl.BoolVar(&async, "async", false, "print the task's id at once and do not wait")
	fl.DurationVar(&wait, "wait", time.Minute, "wait this long for the result")
	suggest(cmd, "device", policies...)
	cmd.MarkFlagsMutuallyExclusive("data", "file")
	cmd.MarkFlagsMutuallyExclusive("async", "wait")
	cmd.MarkFlagsMutuallyExclusive("async", "write")
	return cmd
}

var policies = []string{string(functions.Required), string(functions.Preferred), string(functions.Auto), string(functions.Never)}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// accepted reads the ticket of a 202, and prints it when that is the answer.
func accepted(app App, f *flags, resp *http.Response, print bool) (id string, err error) {
	var ticket struct {
		ID functions.TaskID `json:"id"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	if err := decode(raw, &ticket); err != nil {
		return "", err
	}
	switch {
	case !print:
	case quiet(f.output):
		err = list{raw: raw, names: []string{"task/" + string(ticket.ID)}}.print(app, f.output)
	default:
		_, err = fmt.Fprintln(app.Out, ticket.ID)
	}
	return string(ticket.ID), err
}

// outlast waits for a task's end until the given time. A task that has not ended
// by then is printed, and is an error that says why there is no result: a script
// must not take an id for one.
func outlast(ctx context.Context, app App, f *flags, c *client, id string, until time.Time) error {
	t, raw, err := waitTask(ctx, app, f, c, id, until)
	if err != nil || t.ended() {
		return err
	}
	if quiet(f.output) {
		err = list{raw: raw, names: []string{t.name()}}.print(app, f.output)
	} else {
		_, err = fmt.Fprintln(app.Out, t.ID)
	}
	if err != nil {
		return err
	}
	class, why := errWaitOver, "the task is still "+t.Status
	if t.Waiting != nil {
		class, why = errUnplaced, t.Waiting.Reason
	}
	e := functions.NewError(class, "no_result_yet", "%v: %s", class, why)
	return e.WithHint("the task stays accepted; follow it with: spillway task %s --wait", t.ID)
}

// writeResult copies a result to a file, or to w when there is no file. A file
// that the disk did not take whole is an error.
func writeResult(w io.Writer, path string, result io.Reader) error {
	if path == "" {
		if _, err := io.Copy(w, result); err != nil {
			return fmt.Errorf("read the result: %w", err)
		}
		if terminal(w) {
			fmt.Fprintln(w)
		}
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	_, err = io.Copy(file, result)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// functionPath takes what -o name prints as well as a name.
func functionPath(name string) string {
	return "/v1/functions/" + url.PathEscape(strings.TrimPrefix(name, "function/"))
}
