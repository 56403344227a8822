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
	root := command(getenv, in, out, errOut)
	root.SetArgs(args)
	ran := watch(root)
	cmd, err := root.ExecuteContextC(ctx)
	if !*ran {
		err = cli.Usage(cmd.CommandPath(), err)
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 130
	}
	cli.Explain(errOut, err)
	return cli.ExitCode(err)
}

// command is the tree of all commands.
func command(getenv func(string) string, in io.Reader, out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "spillway",
		Short: "A function runtime for your own Docker hosts",
		Long: "A function runtime for your own Docker hosts, with GPUs and an honest way back to the CPU.\n\n" +
			"The answer goes to standard output, everything else to standard error. Read commands take -o json for\n" +
			"the API's own answer and nothing else.\n\n" + cli.ExitCodes,
		Example: "  spillway up --no-auth\n" +
			"  spillway deploy functions/catalog/echo\n" +
			"  spillway invoke echo -d '{\"hello\":\"world\"}'",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Run:"})
	root.AddGroup(cli.Groups()...)
	root.AddCommand(upCommand(getenv), serverCommand(getenv), nodeCommand(getenv))
	root.AddCommand(cli.Commands(cli.App{In: in, Out: out, Err: errOut, Getenv: getenv, Checks: hostChecks(getenv), GPUChecks: gpuChecks(getenv), Images: localImages(getenv), AWS: awsEnv(getenv)})...)
	return root
}

// watch tells whether a command got as far as running. What the parser refuses
// before that is wrong usage, and its errors have no other mark.
func watch(c *cobra.Command) *bool {
	ran := new(bool)
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if inner := c.RunE; inner != nil {
			c.RunE = func(cmd *cobra.Command, args []string) error {
				*ran = true
				return inner(cmd, args)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(c)
	return ran
}
