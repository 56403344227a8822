// Command spillway is everything: the server, the node agent and the command
// line client. It is the only package that knows all the others; it reads the
// configuration, builds the parts in the order that its drawings show, and hands
// each the little that it needs.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/cmd/spillway/cli"
)

// version is set by the linker in released builds.
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit code.
func run(args []string, getenv func(string) string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "spillway",
		Short:         "A function runtime for your own Docker hosts, with GPUs and an honest way back to the CPU",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Long: "Exit codes: 0 success, 1 other failure, 2 wrong usage, 3 not allowed, 4 not found, 5 conflict,\n" +
			"6 accepted but cannot be placed, 7 gateway not reachable, 8 the task failed, 124 --timeout, 130 interrupted.",
	}
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	root.AddCommand(upCommand(getenv), serverCommand(getenv), nodeCommand(getenv))
	app := cli.App{In: in, Out: out, Err: errOut, Getenv: getenv, Checks: hostChecks(getenv)}
	root.AddCommand(cli.Commands(app)...)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 130
	}
	cli.Explain(errOut, err)
	return cli.ExitCode(err)
}
