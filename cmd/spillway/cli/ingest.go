package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

func ingestCommand(app App, f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "ingest",
		Short: "Show how stored objects become tasks: sources, buckets, marks",
		Long: "Show how stored objects become tasks.\n\n" +
			"Sources and buckets are counted by the server that answers, since it started. A gap is what a listing found and\n" +
			"no event had reported. Every object stored before a function's mark has been offered to it.",
		Example: "  spillway ingest\n  spillway ingest -o json | jq '.buckets[] | {name, gap}'",
		GroupID: groupCluster,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			var st functions.IngestStatus
			raw, err := c.get(cmd.Context(), "/v1/ingest", &st)
			if err != nil {
				return err
			}
			return printIngest(app, f.output, raw, st)
		},
	}
}

// printIngest prints a table for each kind of thing that there is.
func printIngest(app App, format string, raw json.RawMessage, st functions.IngestStatus) error {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	var names []string
	var sources, buckets, marks, refusals [][]string
	for _, s := range st.Sources {
		sources = append(sources, []string{
			s.Name, n(s.Hints), n(s.Started), n(s.Duplicates), n(s.Rejected), n(s.Failures), n(s.Dropped), ago(s.LastHint), clip(s.Error, 60),
		})
	}
	for _, b := range st.Buckets {
		why := b.Error
		if why == "" {
			why = b.Notifications
		}
		names = append(names, "bucket/"+b.Name)
		buckets = append(buckets, []string{b.Name, ago(b.ListedAt), n(b.ListingMS) + "ms", n(b.Objects), n(b.Gap), n(b.Recovered), clip(why, 60)})
	}
	for _, m := range st.Functions {
		marks = append(marks, []string{string(m.Name), cmp.Or(ago(m.Until), "none yet"), clip(m.Held, 60)})
	}
	for _, r := range st.Refusals {
		refusals = append(refusals, []string{string(r.Function), string(r.Task), r.Output, strconv.Itoa(r.Depth), ago(r.At)})
	}
	if quiet(format) {
		return list{raw: raw, names: names}.print(app, format)
	}
	shown := 0
	for _, t := range []list{
		{headers: []string{"SOURCE", "HINTS", "STARTED", "DUPLICATES", "REJECTED", "FAILURES", "DROPPED", "LAST", "ERROR"}, rows: sources},
		{headers: []string{"BUCKET", "LISTED", "TOOK", "OBJECTS", "GAP", "RECOVERED", "ERROR"}, rows: buckets},
		{headers: []string{"FUNCTION", "MARK", "HELD BY"}, rows: marks},
		{headers: []string{"REFUSED BY DEPTH", "TASK", "OUTPUT", "DEPTH", "AGO"}, rows: refusals},
	} {
		if len(t.rows) == 0 {
			continue
		}
		if shown++; shown > 1 {
			if _, err := fmt.Fprintln(app.Out); err != nil {
				return err
			}
		}
		if err := t.print(app, format); err != nil {
			return err
		}
	}
	if shown == 0 {
		return list{}.print(app, format)
	}
	return nil
}
