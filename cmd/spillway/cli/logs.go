package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

func logsCommand(app App, f *flags) *cobra.Command {
	var follow bool
	var tail, attempt int
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print what a task wrote; -f follows it to its end",
		Long:  "Print what a task wrote. -o json, jsonl and yaml give each line with its time, stream and attempt.",
		Example: "  spillway logs -f 019a7c31\n" +
			"  spillway logs 019a7c31 --attempt 1 -n 20\n" +
			"  spillway logs 019a7c31 -o jsonl | jq -r 'select(.stream == \"stderr\").text'",
		GroupID:           groupTasks,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: taskIDs(app, f, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			document := f.output == "json" || f.output == "yaml"
			if document && follow {
				return usage("-o %s is one document, which -f never ends; use -o jsonl", f.output)
			}
			if tail < 0 || attempt < 0 {
				return usage("--tail and --attempt are numbers from 1; 0 means all lines, and the newest attempt")
			}
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			q := url.Values{}
			if follow {
				q.Set("follow", "1")
			}
			if tail > 0 {
				q.Set("tail", strconv.Itoa(tail))
			}
			if attempt > 0 {
				q.Set("attempt", strconv.Itoa(attempt))
			}
			accept := "text/plain"
			if document || f.output == "jsonl" {
				accept = "application/x-ndjson"
			}
			resp, err := c.do(cmd.Context(), http.MethodGet, taskPath(args[0])+"/logs?"+q.Encode(), http.Header{"Accept": {accept}}, nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if document {
				return printLog(app, f.output, resp.Body)
			}
			if _, err := io.Copy(app.Out, resp.Body); err != nil {
				return fmt.Errorf("read the log: %w", err)
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&follow, "follow", "f", false, "follow until the task ends, through all its attempts")
	fl.IntVarP(&tail, "tail", "n", 0, "only the last lines; 0 = all")
	fl.IntVar(&attempt, "attempt", 0, "of this attempt; 0 = the newest")
	return cmd
}

// printLog makes one document of a log's lines.
func printLog(app App, format string, ndjson io.Reader) error {
	lines := []json.RawMessage{}
	r := bufio.NewReader(ndjson)
	for {
		line, err := r.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			lines = append(lines, line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
	raw, err := json.Marshal(lines)
	if err != nil {
		return fmt.Errorf("decode the log: %w", err)
	}
	return list{raw: raw}.print(app, format)
}
