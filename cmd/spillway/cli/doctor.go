package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

// Check is one thing that must hold. Run returns what was found.
type Check struct {
	Name string
	Fix  string // what to do when it fails; empty = the error's own hint
	Run  func(ctx context.Context) (found string, err error)
	// Limit bounds the check; 0 = checkLimit.
	Limit time.Duration
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

// Skipped and Warned mark an error of a check that is no failure: there is nothing
// to look at here, or what was found stops no task.
func Skipped(err error) error { return &tagged{errSkip, err} }
func Warned(err error) error  { return &tagged{errWarn, err} }

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
	var gpu bool
	var image string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine and the gateway; each failure says how to fix it",
		Long: "Check this machine and the gateway; each failure says how to fix it. The exit code is 1 when a check failed.\n" +
			"Warnings and checks that are skipped, with the reason, do not count.\n" +
			"With --gpu, run on a GPU host and without a gateway: it proves each step of deploy/gpu-host.md, from the driver to a\n" +
			"container that sees a GPU, one after the other. Begin with the first that failed.",
		Example: "  spillway doctor\n  spillway doctor --server https://spillway.example.com -o json\n" +
			"  spillway doctor --gpu\n  spillway doctor --gpu --image debian:bookworm-slim",
		GroupID: groupCluster,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if image != "" && !gpu {
				return usage("--image is for --gpu")
			}
			results, err := diagnose(cmd.Context(), app, f, gpu, image)
			if err != nil {
				return err
			}
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
				return summary(results, failed, gpu)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&gpu, "gpu", false, "check that containers can have this machine's GPUs, step by step; asks no gateway")
	cmd.Flags().StringVar(&image, "image", "", "with --gpu, the image of the container that is tried; default one that Docker has")
	return cmd
}

// diagnose runs the checks that were asked for.
func diagnose(ctx context.Context, app App, f *flags, gpu bool, image string) ([]result, error) {
	if gpu {
		return inTurn(ctx, app, f, image)
	}
	c, err := newClient(app, f)
	if err != nil {
		return nil, err
	}
	return examine(ctx, c, app.Checks), nil
}

// inTurn runs the checks of a GPU host one after the other, since each builds on
// those before it.
func inTurn(ctx context.Context, app App, f *flags, image string) ([]result, error) {
	checks, release, err := app.GPUChecks(image)
	if err != nil {
		return nil, err
	}
	defer release()
	var results []result
	for _, ch := range checks {
		if ctx.Err() != nil {
			break
		}
		results = append(results, ch.examine(ctx, nil))
		if !quiet(f.output) && terminal(app.Err) {
			fmt.Fprintf(app.Err, "%s: %s\n", ch.Name, results[len(results)-1].State)
		}
	}
	return results, nil
}

// summary is the error of a report with failures. Where the checks build on each
// other, the first failure is the one to mend.
func summary(results []result, failed int, inTurn bool) error {
	e := functions.NewError(errChecks, "checks_failed", "%d of %d checks failed", failed, len(results))
	i := slices.IndexFunc(results, func(r result) bool { return r.State == "failed" })
	if inTurn {
		return e.WithHint("begin with %q: %s", results[i].Check, results[i].Fix)
	}
	return e
}

// errChecks marks a report with failures.
var errChecks = errors.New("checks failed")

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
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(ch.Limit, checkLimit))
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
	if r.Fix = cmp.Or(ch.Fix, hintOf(err)); errors.Is(err, functions.ErrForbidden) {
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
