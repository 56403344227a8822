package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

// Check is one thing that must hold. Run returns what was found.
type Check struct {
	Name string
	Fix  string // what to do when it fails; the error's own hint goes first
	Run  func(ctx context.Context) (found string, err error)
	// Driver is the runtime that the check is about, as nodes name theirs. Where
	// no node uses it, its failure stops nothing, and counts as skipped.
	Driver string
}

// errSkip marks a check that has nothing to look at here; errWarn one that found
// something which does not stop any task.
var (
	errSkip = errors.New("skipped")
	errWarn = errors.New("warning")
)

func skip(format string, args ...any) error { return &tagged{errSkip, fmt.Errorf(format, args...)} }
func warn(format string, args ...any) error { return &tagged{errWarn, fmt.Errorf(format, args...)} }

// checkLimit bounds one check.
const checkLimit = 5 * time.Second

// result is one line of the doctor's report.
type result struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning, skipped or failed
	Found  string `json:"found"`
	Fix    string `json:"fix,omitempty"`
	Millis int64  `json:"ms"`
}

func doctorCommand(app App, f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine and the gateway; each failure says how to fix it",
		Long: "Check this machine and the gateway; each failure says how to fix it. The exit code is 1 when a check failed.\n" +
			"Warnings and checks that are skipped, with the reason, do not count.",
		Example: "  spillway doctor\n  spillway doctor --server https://spillway.example.com -o json",
		GroupID: groupCluster,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			results := examine(cmd.Context(), c, app.Checks)
			if err := context.Cause(cmd.Context()); err != nil {
				return err
			}
			failed := 0
			for _, r := range results {
				if r.State == "failed" {
					failed++
				}
			}
			if err := printResults(app, f.output, results); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d checks failed", failed, len(results))
			}
			return nil
		},
	}
}

// planned is a check, and why it is skipped; nil = it is not.
type planned struct {
	Check
	not error
}

// examine runs every check. The gateway's answer comes first: without it, most
// others could only say the same again.
func examine(ctx context.Context, c *client, host []Check) []result {
	answers := Check{Name: "gateway answers", Fix: "start it with: spillway up", Run: c.checkAnswer}
	first := answers.examine(ctx, nil)
	var away error
	if first.State != "ok" {
		away = skip("the gateway does not answer")
	}
	nodes, err := c.nodes(ctx, away)
	var plan []planned
	for _, ch := range gatewayChecks(c, nodes, err) {
		plan = append(plan, planned{ch, away})
	}
	elsewhere := hostSkip(c.base, nodes, err)
	for _, ch := range host {
		plan = append(plan, planned{ch, elsewhere})
	}
	results := make([]result, len(plan))
	var all sync.WaitGroup
	for i, p := range plan {
		all.Go(func() {
			results[i] = p.examine(ctx, p.not)
			if r := &results[i]; p.Driver != "" && r.State == "failed" && !uses(nodes, p.Driver) {
				r.State, r.Found = "skipped", "no node uses it; "+r.Found
			}
		})
	}
	all.Wait()
	return append([]result{first}, results...)
}

// examine runs one check, unless there is a reason not to.
func (ch Check) examine(ctx context.Context, not error) result {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	start := time.Now()
	found, err := "", not
	if err == nil {
		found, err = ch.Run(ctx)
	}
	r := result{Check: ch.Name, State: "ok", Found: found, Millis: time.Since(start).Milliseconds()}
	if err == nil {
		return r
	}
	r.State, r.Found = "failed", err.Error()
	switch {
	case errors.Is(err, errSkip):
		r.State = "skipped"
		return r
	case errors.Is(err, errWarn):
		r.State = "warning"
	}
	if r.Fix = ch.Fix; errors.Is(err, functions.ErrForbidden) {
		r.Fix = keyHint
	}
	return r
}

func printResults(app App, format string, results []result) error {
	out := list{headers: []string{"CHECK", "STATE", "FOUND", "FIX"}}
	for _, r := range results {
		raw, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode the report: %w", err)
		}
		out.items = append(out.items, raw)
		out.names = append(out.names, r.Check)
		found := r.Found
		if format != "wide" {
			found = clip(found, 90)
		}
		out.rows = append(out.rows, []string{r.Check, r.State, found, r.Fix})
	}
	var err error
	if out.raw, err = json.Marshal(results); err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	return out.print(app, format)
}
