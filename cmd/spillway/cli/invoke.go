package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

// maxHold is the longest that one request waits; the gateway allows no more.
const maxHold = time.Minute

type invokeOptions struct {
	callInput
	inputs  []string // that are somewhere already
	key     string   // makes the call once
	outFile string   // "" = standard output
	async   bool
	wait    time.Duration
}

func invokeCommand(app App, f *flags) *cobra.Command {
	var o invokeOptions
	cmd := &cobra.Command{
		Use:   "invoke FUNCTION",
		Short: "Call a function and print its result",
		Long: "Call a function with JSON (-d) or with a file of up to 6 MiB (-f; for larger ones there is spillway upload).\n" +
			"With --input it works on files that are somewhere already: file:SHARE/PATH in a shared folder, an http(s) URL,\n" +
			"or s3://BUCKET/KEY in the store. NAME= before one names it for the function.\n" +
			"The result goes to standard output as the function gave it; the task and its device go to standard error.\n" +
			"When --wait is over first, the task's id is printed instead, and the exit code is 6 or 124.",
		Example: "  spillway invoke echo -d '{\"hello\":\"world\"}'\n" +
			"  jq .event call.json | spillway invoke echo -d @-\n" +
			"  spillway invoke thumbnail -f holiday.jpg -w thumbnail.json\n" +
			"  spillway invoke media-info --input file:media/talks/one.mp4\n" +
			"  spillway invoke transcribe -f talk.ogg --device required --wait 10m",
		GroupID:           groupTasks,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: functionNames(app, f, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.wait < 0 {
				return usage("--wait %s is negative", o.wait)
			}
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			return invoke(cmd.Context(), app, f, c, args[0], o)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&o.data, "data", "d", "", "JSON event; @FILE reads a file, @- standard input")
	fl.StringVarP(&o.file, "file", "f", "", "send this file as the input")
	fl.StringArrayVar(&o.inputs, "input", nil, "work on this file: file:SHARE/PATH, http(s)://..., or s3://BUCKET/KEY; may be repeated")
	fl.StringVar(&o.device, "device", "", "required, preferred, auto, fastest or never; default as the function says")
	fl.StringVar(&o.key, "idempotency-key", "", "a call repeated with this key does not run again: it gets the first one's result")
	fl.StringVarP(&o.outFile, "write", "w", "", "write the result to this file")
	fl.BoolVar(&o.async, "async", false, "print the task's id at once and do not wait")
	fl.DurationVar(&o.wait, "wait", time.Minute, "wait this long for the result")
	suggest(cmd, "device", policies...)
	cmd.MarkFlagsMutuallyExclusive("data", "file")
	cmd.MarkFlagsMutuallyExclusive("input", "file")
	cmd.MarkFlagsMutuallyExclusive("async", "wait")
	cmd.MarkFlagsMutuallyExclusive("async", "write")
	return cmd
}

var policies = []string{string(functions.Required), string(functions.Preferred), string(functions.Auto), string(functions.Fastest), string(functions.Never)}

// invoke calls a function and writes its result. A call that the gateway cannot
// hold long enough is waited for as a task.
func invoke(ctx context.Context, app App, f *flags, c *client, fn string, o invokeOptions) error {
	until := time.Now().Add(o.wait)
	path, open := functionPath(fn)+"/invoke", func() (io.Reader, http.Header, error) { return o.open(app) }
	if len(o.inputs) > 0 {
		path, open = "/v1/tasks", func() (io.Reader, http.Header, error) { return o.openTask(app, fn) }
	}
	body, header, err := open()
	if err != nil {
		return err
	}
	if o.key != "" {
		header.Set("Idempotency-Key", o.key)
	}
	if o.async {
		header.Set("Prefer", "respond-async")
	}
	resp, err := c.do(ctx, http.MethodPost, path+"?wait="+min(o.wait, maxHold).String(), header, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return finished(app, f, resp, o.outFile)
	}
	id, err := accepted(app, f, resp, o.async)
	if err != nil || o.async {
		return err
	}
	if err := outlast(ctx, app, f, c, id, until); err != nil {
		return err
	}
	result, err := c.do(ctx, http.MethodGet, taskPath(id)+"/result", nil, nil)
	if err != nil {
		return err
	}
	defer result.Body.Close()
	return finished(app, f, result, o.outFile)
}

// finished writes a result, and says where it was made.
func finished(app App, f *flags, resp *http.Response, outFile string) error {
	if !quiet(f.output) {
		fmt.Fprintf(app.Err, "task %s on %s%s\n", resp.Header.Get("Spillway-Task-Id"), resp.Header.Get("Spillway-Device-Used"),
			because(resp.Header.Get("Spillway-Fallback-Reason")))
	}
	return writeResult(app.Out, outFile, resp.Body)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func functionPath(name string) string { return "/v1/functions/" + url.PathEscape(functionName(name)) }

// functionName takes what -o name prints as well as a name.
func functionName(name string) string { return strings.TrimPrefix(name, "function/") }
