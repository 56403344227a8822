package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

func nodesCommand(app App, f *flags) *cobra.Command {
	var gpus bool
	cmd := &cobra.Command{
		Use:     "nodes [NODE]",
		Aliases: []string{"node-list"},
		Short:   "List nodes, or the GPUs of one or of all: their state, and why one is not offered",
		Example: "  spillway nodes\n" +
			"  spillway nodes --gpus\n" +
			"  spillway nodes gpu-host-1 -o wide\n" +
			"  spillway nodes -o json | jq '.nodes[].gpus'",
		GroupID:           groupCluster,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: nodeNames(app, f, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return showNode(cmd.Context(), app, f, c, args[0])
			}
			var page struct{ Nodes []json.RawMessage }
			raw, err := c.get(cmd.Context(), "/v1/nodes", &page)
			if err != nil {
				return err
			}
			if gpus {
				return printGPUs(app, f, raw, page.Nodes)
			}
			return printNodes(app, f, raw, page.Nodes)
		},
	}
	cmd.Flags().BoolVar(&gpus, "gpus", false, "one row for each GPU")
	cmd.AddCommand(readmitCommand(app, f))
	return cmd
}

// showNode lists the GPUs of one node.
func showNode(ctx context.Context, app App, f *flags, c *client, name string) error {
	raw, err := c.get(ctx, nodePath(name), &functions.NodeStatus{})
	if err != nil {
		return err
	}
	return printGPUs(app, f, raw, []json.RawMessage{raw})
}

// nodePath takes what -o name prints as well as a name.
func nodePath(name string) string { return "/v1/nodes/" + url.PathEscape(nodeName(name)) }

func nodeName(name string) string { return strings.TrimPrefix(name, "node/") }

// printNodes prints one row a node.
func printNodes(app App, f *flags, raw json.RawMessage, nodes []json.RawMessage) error {
	out := list{raw: raw, items: nodes, headers: []string{"NODE", "STATE", "GPUS", "RUNNING", "WARM", "CPU FREE", "MEMORY FREE", "SEEN", "WHY", "RUNTIME", "CHOSEN BECAUSE"}, wide: 9}
	for _, it := range nodes {
		var n functions.NodeStatus
		if err := decode(it, &n); err != nil {
			return err
		}
		out.names = append(out.names, "node/"+string(n.ID))
		out.rows = append(out.rows, []string{
			string(n.ID), nodeState(n), gpuCell(n.NodeInfo), strconv.Itoa(len(n.Running)), warmCell(n.Warm),
			fmt.Sprintf("%.1f", float64(n.Free.MilliCPU)/1000), n.Free.Memory.String(), ago(n.LastSeen), clip(n.Reason, 60), n.Driver, n.Labels[functions.LabelRuntimeWhy],
		})
	}
	return out.print(app, f.output)
}

func nodeState(n functions.NodeStatus) string {
	switch {
	case !n.Alive:
		return "silent"
	case !n.Ready:
		return "not ready"
	}
	return "ready"
}

// warmCell writes "thumbnail 2/2, ocr 0/1": of the containers that are to wait
// started for each function, those that do.
func warmCell(warm []functions.WarmInfo) string {
	if len(warm) == 0 {
		return "none"
	}
	var parts []string
	for _, w := range warm {
		parts = append(parts, fmt.Sprintf("%s %d/%d", w.Function, w.Idle, w.Wanted))
	}
	return clip(strings.Join(parts, ", "), 60)
}

// gpuStates are those of a device, the good ones first.
var gpuStates = []functions.GPUState{functions.GPUFree, functions.GPULeased, functions.GPUQuarantined, functions.GPUEjected, functions.GPUUnread}

// gpuCell writes "1 free, 1 quarantined (why)", or why the GPUs as a whole are off.
func gpuCell(n functions.NodeInfo) string {
	if h := n.GPUHost; h != nil && h.State == functions.GPUHostOff {
		return "off (" + clip(h.Reason, 50) + ")"
	}
	if len(n.GPUs) == 0 {
		return "none"
	}
	var parts []string
	for _, state := range gpuStates {
		count, why := 0, ""
		for _, g := range n.GPUs {
			if g.State == state {
				count++
				why = g.Reason
			}
		}
		if count == 0 {
			continue
		}
		cell := fmt.Sprintf("%d %s", count, state)
		if why != "" {
			cell += " (" + clip(why, 50) + ")"
		}
		parts = append(parts, cell)
	}
	return strings.Join(parts, ", ")
}
