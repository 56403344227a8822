package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spillway/spillway/functions"
)

var (
	errUsage = errors.New("wrong usage")
	// errTimeout marks a command that reached its own limit of time.
	errTimeout = errors.New("--timeout is over")
	// errWaitOver marks a task that still ran when the caller's wait ended.
	errWaitOver = errors.New("--wait is over")
	// errUnreachable marks a gateway or store that did not answer at all.
	errUnreachable = errors.New("cannot be reached")
	// errTaskFailed marks a task that ended without success.
	errTaskFailed = errors.New("the task did not succeed")
	// errUnplaced marks a task that was accepted and cannot be placed now.
	errUnplaced = errors.New("the task is accepted and cannot be placed now")
)

// ExitCodes is the documented table, for help texts.
const ExitCodes = `Exit codes:
  0    success
  1    other failure, a failed check of doctor
  2    wrong usage, a request or function.yaml that is not valid
  3    not signed in, or not allowed
  4    no such function, task, node or file
  5    conflict: the state does not allow it, or an idempotency key was used for another call
  6    accepted, and cannot be placed now (no GPU, no room, no node)
  7    gateway or object store not reachable
  8    the task itself failed
  124  --timeout or --wait is over
  130  interrupted`

// ExitCode maps an error to its code in ExitCodes.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errTimeout), errors.Is(err, errWaitOver):
		return 124
	case errors.Is(err, context.Canceled):
		return 130
	case errors.Is(err, errTaskFailed):
		return 8
	case errors.Is(err, errUnplaced):
		return 6
	case errors.Is(err, errUnreachable):
		return 7
	case errors.Is(err, errUsage), errors.Is(err, functions.ErrInvalid), errors.Is(err, functions.ErrTooLarge):
		return 2
	case errors.Is(err, functions.ErrForbidden):
		return 3
	case errors.Is(err, functions.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return 4
	case errors.Is(err, functions.ErrConflict):
		return 5
	}
	return 1
}

// Usage marks an error of the command line itself. The parser's own errors have
// no type to know them by. command is where the help about it is.
func Usage(command string, err error) error {
	if err == nil || errors.Is(err, errUsage) {
		return err
	}
	return functions.NewError(errUsage, "usage", "%s", strings.TrimSpace(err.Error())).WithHint("see: %s --help", command)
}

func usage(format string, args ...any) error { return &tagged{errUsage, fmt.Errorf(format, args...)} }

// tagged adds a class to an error and nothing to its words.
type tagged struct{ class, err error }

func (e *tagged) Error() string   { return e.err.Error() }
func (e *tagged) Unwrap() []error { return []error{e.class, e.err} }
