package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

func nodesCommand(app App, f *flags) *cobra.Command {
	return &cobra.Command{
		Use:     "nodes",
		Aliases: []string{"node-list"},
		Short:   "List nodes and their GPUs",
		Example: "  spillway nodes\n  spillway nodes -o json | jq '.nodes[].gpus'",
		GroupID: groupCluster,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			var page struct{ Nodes []json.RawMessage }
			raw, err := c.get(cmd.Context(), "/v1/nodes", &page)
			if err != nil {
				return err
			}
			out := list{raw: raw, items: page.Nodes, headers: []string{"NODE", "STATE", "GPUS", "RUNNING", "WARM", "CPU FREE", "MEMORY FREE", "SEEN", "WHY"}}
			for _, it := range page.Nodes {
				var n functions.NodeStatus
				if err := decode(it, &n); err != nil {
					return err
				}
				state := "ready"
				switch {
				case !n.Alive:
					state = "silent"
				case !n.Ready:
					state = "not ready"
				}
				out.names = append(out.names, "node/"+string(n.ID))
				out.rows = append(out.rows, []string{
					string(n.ID), state, gpuCell(n.GPUs), strconv.Itoa(len(n.Running)), warmCell(n.Warm),
					fmt.Sprintf("%.1f", float64(n.Free.MilliCPU)/1000), n.Free.Memory.String(), ago(n.LastSeen), clip(n.Reason, 60),
				})
			}
			return out.print(app, f.output)
		},
	}
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

// gpuCell writes "1 free, 1 quarantined (why)".
func gpuCell(gpus []functions.GPUInfo) string {
	if len(gpus) == 0 {
		return "none"
	}
	var parts []string
	for _, state := range []functions.GPUState{functions.GPUFree, functions.GPULeased, functions.GPUQuarantined} {
		n, why := 0, ""
		for _, g := range gpus {
			if g.State == state {
				n++
				why = g.Reason
			}
		}
		if n == 0 {
			continue
		}
		cell := fmt.Sprintf("%d %s", n, state)
		if why != "" {
			cell += " (" + clip(why, 50) + ")"
		}
		parts = append(parts, cell)
	}
	return strings.Join(parts, ", ")
}
