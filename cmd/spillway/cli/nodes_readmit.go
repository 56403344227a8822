package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

func readmitCommand(app App, f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "readmit NODE [GPU]",
		Short: "Offer a node's GPUs again before their quarantine is over, all or one",
		Long: "Offer GPUs again that a node has quarantined or ejected: all of them and the node's GPUs as a whole, or the one that is\n" +
			"named by its UUID or by its number. A device that is still sick is quarantined again at its next failure.",
		Example: "  spillway nodes readmit gpu-host-1\n" +
			"  spillway nodes readmit gpu-host-1 GPU-5a1c2e0f-6d3b-4b8e-9f10-0d9a7c31e8b2\n" +
			"  spillway nodes readmit gpu-host-1 3",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: nodeNames(app, f, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			uuid, what := "all", "every GPU"
			if len(args) == 2 {
				if uuid, err = gpuOf(cmd.Context(), c, args[0], args[1]); err != nil {
					return err
				}
				what = uuid
			}
			if _, err := c.call(cmd.Context(), http.MethodPost, nodePath(args[0])+"/gpus/"+url.PathEscape(uuid)+"/readmit", nil); err != nil {
				return err
			}
			if quiet(f.output) {
				return nil
			}
			_, err = fmt.Fprintf(app.Err, "%s of %s is readmitted; its state is in: spillway nodes %s\n", what, nodeName(args[0]), nodeName(args[0]))
			return err
		},
	}
}

// gpuOf is the UUID of a GPU that is named by it, as -o name prints it, or by the
// number that the table shows.
func gpuOf(ctx context.Context, c *client, node, name string) (string, error) {
	index, err := strconv.Atoi(name)
	if err != nil {
		return strings.TrimPrefix(name, "gpu/"), nil
	}
	var n functions.NodeStatus
	if _, err := c.get(ctx, nodePath(node), &n); err != nil {
		return "", err
	}
	uuid := ""
	for _, g := range n.GPUs {
		switch {
		case g.Index != index:
		case uuid != "": // MIG instances have the number of their GPU
			return "", usage("%d is not the number of one device alone; name its UUID, as spillway nodes %s -o wide shows it", index, nodeName(node))
		default:
			uuid = g.UUID
		}
	}
	if uuid == "" {
		return "", functions.NotFound("no_such_gpu", "node %s has no GPU %d", nodeName(node), index).WithHint("spillway nodes %s lists them", nodeName(node))
	}
	return uuid, nil
}
