package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

// completeLimit is how long a press of Tab may hang on a slow gateway.
const completeLimit = 1500 * time.Millisecond

// suggest completes the values of a flag that the command has.
func suggest(cmd *cobra.Command, flag string, values ...string) {
	// The only error is a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// suggestFunctions completes the values of a flag with function names.
func suggestFunctions(cmd *cobra.Command, flag string, app App, f *flags) {
	_ = cmd.RegisterFlagCompletionFunc(flag, functionNames(app, f, -1))
}

// functionNames completes the first most arguments with the names of deployed
// functions; most below 0 means every argument.
func functionNames(app App, f *flags, most int) cobra.CompletionFunc {
	return live(app, f, most, func(ctx context.Context, c *client) ([]cobra.Completion, error) {
		var page struct{ Functions []functions.Function }
		if _, err := c.get(ctx, "/v1/functions", &page); err != nil {
			return nil, err
		}
		var names []cobra.Completion
		for _, fn := range page.Functions {
			names = append(names, cobra.CompletionWithDesc(string(fn.Name), fn.Description))
		}
		return names, nil
	})
}

// nodeNames completes the first most arguments with the names of nodes.
func nodeNames(app App, f *flags, most int) cobra.CompletionFunc {
	return live(app, f, most, func(ctx context.Context, c *client) ([]cobra.Completion, error) {
		nodes, err := c.nodes(ctx, nil)
		if err != nil {
			return nil, err
		}
		var names []cobra.Completion
		for _, n := range nodes {
			names = append(names, cobra.CompletionWithDesc(string(n.ID), nodeState(n)))
		}
		return names, nil
	})
}

// taskIDs completes the first most arguments with the ids of the newest tasks;
// query narrows them.
func taskIDs(app App, f *flags, most int, query string) cobra.CompletionFunc {
	return live(app, f, most, func(ctx context.Context, c *client) ([]cobra.Completion, error) {
		var page struct{ Tasks []taskView }
		if _, err := c.get(ctx, "/v1/tasks?limit=50"+query, &page); err != nil {
			return nil, err
		}
		var ids []cobra.Completion
		for _, t := range page.Tasks {
			ids = append(ids, cobra.CompletionWithDesc(string(t.ID), string(t.Function)+", "+t.Status+", "+ago(t.CreatedAt)))
		}
		return ids, nil
	})
}

// live asks the gateway. Without an answer there is nothing to suggest, and
// nothing to say: a completion has no place for an error.
func live(app App, f *flags, most int, ask func(context.Context, *client) ([]cobra.Completion, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := newClient(app, f)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeLimit)
		defer cancel()
		found, err := ask(ctx, c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}
