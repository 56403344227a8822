package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

func backfillCommand(app App, f *flags) *cobra.Command {
	var ask functions.Backfill
	var since, until string
	cmd := &cobra.Command{
		Use:   "backfill FUNCTION",
		Short: "Start a function for objects that were stored before it watched them",
		Long: "Start a function for objects that match its triggers and were stored before it had them.\n\n" +
			"No object is started twice, so it can be stopped and run again at will. When the function's queue is full it waits.\n" +
			"Times are RFC 3339, or how long ago, such as 36h.",
		Example: "  spillway backfill thumbnail --dry-run\n" +
			"  spillway backfill transcribe --bucket calls --prefix 2026/ --since 2026-01-01T00:00:00Z --until 24h",
		GroupID:           groupFunctions,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: functionNames(app, f, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ask.Function = functions.Name(strings.TrimPrefix(args[0], "function/"))
			for _, bound := range []struct {
				flag, text string
				at         *time.Time
			}{{"since", since, &ask.Since}, {"until", until, &ask.Until}} {
				if bound.text == "" {
					continue
				}
				if *bound.at, err = moment(bound.text); err != nil {
					return usage("--%s: %w", bound.flag, err)
				}
			}
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			body, err := json.Marshal(ask)
			if err != nil {
				return fmt.Errorf("encode request: %w", err)
			}
			resp, err := c.do(cmd.Context(), http.MethodPost, "/v1/ingest/backfill", http.Header{"Content-Type": {"application/json"}}, strings.NewReader(string(body)))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return followBackfill(app, f.output, resp.Body)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&ask.Bucket, "bucket", "", "only this bucket; default every bucket of its triggers")
	fl.StringVar(&ask.Prefix, "prefix", "", "only keys that begin with this")
	fl.StringVar(&since, "since", "", "only objects stored then or later: 36h ago, or a time")
	fl.StringVar(&until, "until", "", "only objects stored before")
	fl.BoolVar(&ask.DryRun, "dry-run", false, "count, and start nothing")
	return cmd
}

// followBackfill shows the progress on a terminal, and prints the end.
func followBackfill(app App, format string, ndjson io.Reader) error {
	var last functions.BackfillProgress
	var raw json.RawMessage
	live := !quiet(format) && terminal(app.Err)
	lines := bufio.NewReader(ndjson)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 && err == nil {
			last = functions.BackfillProgress{}
			if err := decode(line, &last); err != nil {
				return err
			}
			raw = line
			if live {
				fmt.Fprintf(app.Err, "\r\x1b[K%d listed, %d started, %d known  %s", last.Listed, last.Started, last.Known, clip(doing(last), 60))
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("follow the backfill; run it again to go on: %w", err)
		}
	}
	if live {
		fmt.Fprint(app.Err, "\r\x1b[K")
	}
	if raw != nil {
		if err := printBackfill(app, format, raw, last); err != nil {
			return err
		}
	}
	switch {
	case last.Error != "":
		return functions.Unavailable("backfill_stopped", "the backfill ended early: %s", last.Error).WithHint("run it again: it goes on where it was")
	case !last.Done:
		return functions.Unavailable("backfill_stopped", "the gateway ended before the backfill did").WithHint("run it again: it goes on where it was")
	}
	return nil
}

// doing is what a backfill is at.
func doing(p functions.BackfillProgress) string {
	if p.Waiting != "" {
		return "waits: " + p.Waiting
	}
	return p.Bucket + "/" + p.Key
}

func printBackfill(app App, format string, raw json.RawMessage, p functions.BackfillProgress) error {
	started := "STARTED"
	if p.DryRun {
		started = "WOULD START"
	}
	row := []string{}
	for _, n := range []int64{p.Listed, p.Matched, p.Started, p.Known, p.Unfit, p.Rejected} {
		row = append(row, fmt.Sprint(n))
	}
	return list{raw: raw, headers: []string{"LISTED", "MATCHED", started, "KNOWN", "UNFIT", "REJECTED"}, rows: [][]string{row}}.print(app, format)
}
