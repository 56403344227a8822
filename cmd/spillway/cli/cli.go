package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

// App is what the commands may touch of the process.
type App struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	Getenv func(string) string
	Checks []Check // what doctor checks on this machine
}

// flags are shared by every client command.
type flags struct {
	server  string
	key     string
	output  string
	timeout time.Duration
}

// Commands returns the client commands.
func Commands(app App) []*cobra.Command {
	f := &flags{}
	cmds := []*cobra.Command{
		deployCommand(app, f), functionsCommand(app, f), invokeCommand(app, f), uploadCommand(app, f),
		tasksCommand(app, f), taskCommand(app, f), logsCommand(app, f), cancelCommand(app, f), retryCommand(app, f),
		nodesCommand(app, f), doctorCommand(app, f),
	}
	for _, c := range cmds {
		p := c.PersistentFlags()
		p.StringVar(&f.server, "server", "", "gateway URL (SPILLWAY_URL; default http://127.0.0.1:8080)")
		p.StringVar(&f.key, "key", "", "API key (SPILLWAY_API_KEY, or SPILLWAY_API_KEY_FILE)")
		p.StringVarP(&f.output, "output", "o", "table", "table, wide, json, jsonl, yaml or name")
		p.DurationVar(&f.timeout, "timeout", 0, "give up after this long; 0 = never")
		c.SilenceUsage, c.SilenceErrors = true, true
		inner := c.RunE
		if inner == nil {
			continue
		}
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(f.output); err != nil {
				return err
			}
			ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
			if f.timeout > 0 {
				ctx, cancel = context.WithTimeoutCause(ctx, f.timeout, errTimeout)
			}
			defer cancel()
			cmd.SetContext(ctx)
			err := inner(cmd, args)
			if err != nil && context.Cause(ctx) == errTimeout {
				return errTimeout
			}
			return err
		}
	}
	return cmds
}

var (
	errTimeout = errors.New("--timeout is over")
	// errUnreachable marks a gateway that did not answer at all.
	errUnreachable = errors.New("the gateway cannot be reached")
	// errTaskFailed marks a task that ended without success.
	errTaskFailed = errors.New("the task did not succeed")
	// errUnplaced marks a task that was accepted and cannot be placed now.
	errUnplaced = errors.New("the task is accepted and cannot be placed now")
	errUsage    = errors.New("wrong usage")
)

// ExitCode maps an error to the documented exit code: 0 success, 1 other
// failure, 2 wrong usage, 3 not allowed, 4 not found, 5 conflict, 6 accepted but
// cannot be placed, 7 gateway not reachable, 8 the task failed, 124 --timeout,
// 130 interrupted.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errTimeout):
		return 124
	case errors.Is(err, context.Canceled):
		return 130
	case errors.Is(err, errUsage), errors.Is(err, functions.ErrInvalid), errors.Is(err, functions.ErrTooLarge):
		return 2
	case errors.Is(err, functions.ErrForbidden):
		return 3
	case errors.Is(err, functions.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return 4
	case errors.Is(err, functions.ErrConflict):
		return 5
	case errors.Is(err, errUnplaced):
		return 6
	case errors.Is(err, errUnreachable):
		return 7
	case errors.Is(err, errTaskFailed):
		return 8
	}
	return 1
}
