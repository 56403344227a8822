package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spillway/spillway/functions"
)

// printTable prints a line per job, then each job's attempts in full.
func printTable(w io.Writer, rows []row) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TASK\tFUNCTION\tCONTENT TYPE\tASKED\tUSED\tREASON\tATTEMPTS\tMS PER PHASE\tOUTPUT")
	for _, r := range rows {
		t := r.task
		reason, _, _ := strings.Cut(t.Route.Reason, ":")
		if class, _, ok := strings.Cut(t.FallbackReason, ":"); ok {
			reason = "respawned: " + class
		}
		file, _, _ := strings.Cut(r.output, " (")
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", t.ID, t.Function, t.Route.ContentType,
			t.DeviceRequested, t.DeviceUsed, reason, len(t.Attempts), phases(t.Timings), clip(file, 24))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\n  output  %s\n", r.what, r.output)
		for _, a := range r.task.Attempts {
			end := "succeeded"
			if a.Failure != nil {
				end = string(a.Failure.Class) + ": " + clip(a.Failure.Message, 150)
			}
			fmt.Fprintf(w, "  attempt %d on %s: %s\n    why   %s\n", a.Number, a.Device, end, a.Reason)
		}
	}
	return nil
}

func phases(ms map[string]float64) string {
	var parts []string
	for _, p := range []functions.Phase{functions.PhaseQueue, functions.PhaseStage, functions.PhasePull, functions.PhaseLaunch, functions.PhaseRun, functions.PhaseCollect} {
		if v, ok := ms[string(p)]; ok {
			parts = append(parts, fmt.Sprintf("%s %.0f", p, v))
		}
	}
	return strings.Join(parts, ", ")
}

// verdict fails the demo unless every job succeeded, and job (b) really tried a
// GPU first: it ran there, or was respawned for the cause that Docker gave.
func verdict(rows []row) error {
	for _, r := range rows {
		if r.task.Status != string(functions.Succeeded) {
			return fmt.Errorf("%s ended as %s: %+v", r.what, r.task.Status, r.task.Failure)
		}
	}
	b := rows[1].task
	if len(b.Attempts) == 0 || b.Attempts[0].Device != functions.GPU {
		return errors.New("job (b) did not try a GPU first")
	}
	if f := b.Attempts[0].Failure; f != nil && !f.Class.GPUFault() {
		return fmt.Errorf("job (b) left the GPU for a cause that the CPU shares: %s", f.Class)
	}
	return nil
}
