package cli

import (
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
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			if f.output == "json" || f.output == "jsonl" {
				accept = "application/x-ndjson"
			}
			resp, err := c.do(cmd.Context(), http.MethodGet, "/v1/tasks/"+url.PathEscape(args[0])+"/logs?"+q.Encode(), http.Header{"Accept": {accept}}, nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if _, err := io.Copy(app.Out, resp.Body); err != nil {
				return fmt.Errorf("read the log: %w", err)
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&follow, "follow", "f", false, "follow until the task ends")
	fl.IntVarP(&tail, "tail", "n", 0, "only the last lines; 0 = all")
	fl.IntVar(&attempt, "attempt", 0, "of this attempt; 0 = the newest")
	return cmd
}
