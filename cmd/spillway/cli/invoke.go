package cli

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

func invokeCommand(app App, f *flags) *cobra.Command {
	var data, file, device, key, outFile string
	var async bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "invoke FUNCTION",
		Short: "Call a function and print its result",
		Long: "Call a function with JSON (-d, or standard input with -d @-) or a file (-f).\n" +
			"The result goes to standard output; the task and its device go to standard error.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			body, header, err := invokeBody(app, data, file)
			if err != nil {
				return err
			}
			if device != "" {
				header.Set("Spillway-Device", device)
			}
			if key != "" {
				header.Set("Idempotency-Key", key)
			}
			header.Set("Prefer", fmt.Sprintf("wait=%d", int(wait.Seconds())))
			if async {
				header.Set("Prefer", "respond-async")
			}
			resp, err := c.do(cmd.Context(), http.MethodPost, "/v1/functions/"+url.PathEscape(args[0])+"/invoke", header, body)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode == http.StatusAccepted {
				return accepted(cmd, app, f, c, resp, async)
			}
			if !quiet(f.output) {
				fmt.Fprintf(app.Err, "task %s on %s%s\n", resp.Header.Get("Spillway-Task-Id"), resp.Header.Get("Spillway-Device-Used"),
					because(resp.Header.Get("Spillway-Fallback-Reason")))
			}
			w := app.Out
			if outFile != "" {
				file, err := os.Create(outFile)
				if err != nil {
					return err
				}
				defer file.Close()
				w = file
			}
			if _, err = io.Copy(w, resp.Body); err == nil && terminal(w) {
				fmt.Fprintln(w)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&data, "data", "d", "", "JSON event; @FILE reads a file, @- standard input")
	fl.StringVarP(&file, "file", "f", "", "send this file as the input")
	fl.StringVar(&device, "device", "", "required, preferred, auto or never")
	fl.StringVar(&key, "idempotency-key", "", "repeat the call with this key without running it twice")
	fl.StringVarP(&outFile, "write", "w", "", "write the result to this file")
	fl.BoolVar(&async, "async", false, "return the task at once")
	fl.DurationVar(&wait, "wait", time.Minute, "wait this long before returning the task")
	return cmd
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func invokeBody(app App, data, file string) (io.Reader, http.Header, error) {
	header := http.Header{}
	switch {
	case data != "" && file != "":
		return nil, nil, fmt.Errorf("%w: give -d or -f, not both", errUsage)
	case file != "":
		in, err := os.Open(file) // closed by the HTTP client, which closes every body
		if err != nil {
			return nil, nil, err
		}
		header.Set("Content-Type", contentType(file))
		header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": filepath.Base(file)}))
		return in, header, nil
	}
	header.Set("Content-Type", "application/json")
	if name, ok := strings.CutPrefix(data, "@"); ok {
		if name == "-" {
			return app.In, header, nil
		}
		b, err := os.ReadFile(name)
		return bytes.NewReader(b), header, err
	}
	return strings.NewReader(data), header, nil
}

// contentType is what a file's name says of it.
func contentType(file string) string {
	if t := mime.TypeByExtension(filepath.Ext(file)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// accepted prints the task of a 202 and, unless it was asked for, says why there
// is no result yet.
func accepted(cmd *cobra.Command, app App, f *flags, c *client, resp *http.Response, wanted bool) error {
	var a struct {
		ID functions.TaskID `json:"id"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if err := decode(raw, &a); err != nil {
		return err
	}
	if quiet(f.output) && f.output != "name" {
		if err := (list{raw: raw}).print(app.Out, f.output); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(app.Out, a.ID)
	}
	if wanted {
		return nil
	}
	var t taskView
	if _, err := c.get(cmd.Context(), "/v1/tasks/"+string(a.ID), &t); err != nil {
		return err
	}
	if t.Waiting != nil {
		return fmt.Errorf("%w: %s; follow it with: spillway task %s --wait", errUnplaced, t.Waiting.Reason, a.ID)
	}
	if !quiet(f.output) {
		fmt.Fprintf(app.Err, "still %s; follow it with: spillway task %s --wait\n", t.Status, a.ID)
	}
	return nil
}
