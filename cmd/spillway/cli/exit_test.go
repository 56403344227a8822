package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"success", nil, 0},
		{"no class", errors.New("disk full"), 1},
		{"throttled", functions.NewError(functions.ErrThrottled, "x", "later"), 1},
		{"unavailable", functions.Unavailable("x", "the store is away"), 1},
		{"a limit of the gateway's", functions.NewError(functions.ErrTimeout, "x", "late"), 1},
		{"flag", usage("no such flag"), 2},
		{"parser", Usage("spillway", errors.New("unknown flag")), 2},
		{"invalid", functions.Invalid("x", "wrong"), 2},
		{"too large", functions.NewError(functions.ErrTooLarge, "x", "big"), 2},
		{"forbidden", functions.NewError(functions.ErrForbidden, "x", "no"), 3},
		{"not found", functions.NotFound("x", "nobody"), 4},
		{"no file", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}, 4},
		{"conflict", functions.Conflict("x", "again"), 5},
		{"unplaced", functions.NewError(errUnplaced, "x", "no GPU"), 6},
		{"unreachable", functions.NewError(errUnreachable, "x", "away"), 7},
		{"unreachable, and the cause looks like another class", functions.NewError(errUnreachable, "x", "away").WithCause(fs.ErrNotExist), 7},
		{"task failed", &taskError{class: "exit_error"}, 8},
		{"timeout", errTimeout, 124},
		{"wait over", functions.NewError(errWaitOver, "x", "slow"), 124},
		{"interrupted", context.Canceled, 130},
		{"interrupted while it asked", functions.NewError(context.Canceled, "x", "away"), 130},
	} {
		for how, err := range map[string]error{"bare": c.err, "wrapped": wrapped(c.err)} {
			if got := ExitCode(err); got != c.want {
				t.Errorf("%s (%s): exit code %d, want %d", c.name, how, got, c.want)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("deploy x: %w", err)
}

// The documented table and the function that keeps it must not part.
func TestExitCodesAreDocumented(t *testing.T) {
	documented := map[int]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  (\d+) +\S`).FindAllStringSubmatch(ExitCodes, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[n] = true
	}
	for _, err := range []error{
		nil, errors.New("x"), errUsage, functions.ErrForbidden, functions.ErrNotFound, functions.ErrConflict,
		errUnplaced, errUnreachable, errTaskFailed, errTimeout, context.Canceled,
	} {
		code := ExitCode(err)
		if !documented[code] {
			t.Errorf("exit code %d of %v is not documented", code, err)
		}
		delete(documented, code)
	}
	if len(documented) > 0 {
		t.Errorf("documented and never returned, or returned twice: %v", documented)
	}
}

func TestUsageKeepsItsClassOnce(t *testing.T) {
	inner := usage("--since: %w", errors.New("not a time"))
	if got := Usage("spillway tasks", inner); got != inner {
		t.Errorf("a usage error was wrapped again: %v", got)
	}
	if Usage("spillway", nil) != nil {
		t.Error("no error became one")
	}
	var b strings.Builder
	Explain(&b, Usage("spillway tasks", errors.New("unknown flag: --x\n")))
	if want := "error: unknown flag: --x\nhint: see: spillway tasks --help\n"; b.String() != want {
		t.Errorf("said %q, want %q", b.String(), want)
	}
}
