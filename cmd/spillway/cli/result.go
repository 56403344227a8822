package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spillway/spillway/functions"
)

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
	warned(app, raw)
	switch {
	case !print:
	case quiet(f.output):
		err = list{raw: raw, names: []string{"task/" + string(ticket.ID)}}.print(app, f.output)
	default:
		_, err = fmt.Fprintln(app.Out, ticket.ID)
	}
	return string(ticket.ID), err
}

// warned passes on what an answer warns of: what was accepted may never run.
func warned(app App, raw json.RawMessage) {
	var v struct{ Warning string }
	if json.Unmarshal(raw, &v) == nil && v.Warning != "" {
		fmt.Fprintf(app.Err, "warning: %s\n", v.Warning)
	}
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
