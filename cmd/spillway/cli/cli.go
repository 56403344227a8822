package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// App is what the commands may touch of the process.
type App struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	Getenv func(string) string
	Checks []Check // what doctor checks on this machine
	// GPUChecks are what doctor --gpu checks on this machine, in turn; image is what
	// its container is made of, or empty. release lets go of what they use.
	GPUChecks func(image string) (checks []Check, release func(), err error)
	Images    LocalImages // zero = there is no images command
	AWS       AWSAccess   // zero = there is no aws-env command
}

// flags are shared by every client command.
type flags struct {
	server  string
	key     string
	output  string
	timeout time.Duration
}

// Groups of commands in the list of them.
const (
	groupFunctions = "functions"
	groupTasks     = "tasks"
	groupCluster   = "cluster"
)

// Groups returns the headings of the client commands.
func Groups() []*cobra.Group {
	return []*cobra.Group{
		{ID: groupFunctions, Title: "Functions:"},
		{ID: groupTasks, Title: "Tasks:"},
		{ID: groupCluster, Title: "Cluster:"},
	}
}

// Commands returns the client commands.
func Commands(app App) []*cobra.Command {
	f := &flags{}
	cmds := []*cobra.Command{
		deployCommand(app, f), functionsCommand(app, f), invokeCommand(app, f), uploadCommand(app, f),
		tasksCommand(app, f), taskCommand(app, f), logsCommand(app, f), cancelCommand(app, f), retryCommand(app, f),
		nodesCommand(app, f), ingestCommand(app, f), backfillCommand(app, f), doctorCommand(app, f),
	}
	if app.Images.Open != nil {
		cmds = append(cmds, imagesCommand(app, f))
	}
	if app.AWS.Open != nil {
		cmds = append(cmds, awsEnvCommand(app, f))
	}
	for _, c := range cmds {
		f.bind(c)
		guard(c, f)
	}
	return cmds
}

func (f *flags) bind(c *cobra.Command) {
	p := c.PersistentFlags()
	p.StringVar(&f.server, "server", "", "gateway URL (SPILLWAY_URL; default "+defaultServer+")")
	p.StringVar(&f.key, "key", "", "API key (SPILLWAY_API_KEY, or SPILLWAY_API_KEY_FILE)")
	p.StringVarP(&f.output, "output", "o", "table", "table; wide adds columns; json, jsonl and yaml are the API's own answer; name is for scripts")
	p.DurationVar(&f.timeout, "timeout", 0, "give up after this long, with exit code 124; 0 = never")
	suggest(c, "output", formats...)
}

// guard gives c and its subcommands the checks and the limit of time that all
// commands share.
func guard(c *cobra.Command, f *flags) {
	for _, sub := range c.Commands() {
		guard(sub, f)
	}
	inner := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(f.output); err != nil {
			return err
		}
		if f.timeout < 0 {
			return usage("--timeout %s is negative", f.timeout)
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
