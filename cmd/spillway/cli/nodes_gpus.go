package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// printGPUs prints one row a GPU of the nodes; raw is the gateway's whole answer.
// What concerns a node's GPUs as a whole goes to standard error.
func printGPUs(app App, f *flags, raw json.RawMessage, nodes []json.RawMessage) error {
	out := list{raw: raw, items: []json.RawMessage{}, wide: 11, headers: []string{
		"NODE", "GPU", "MODEL", "STATE", "TASKS", "USED", "FREE", "TOTAL", "UTIL", "UNTIL", "WHY", "UUID", "CAN", "HELD BY"}}
	for _, it := range nodes {
		var n functions.NodeStatus
		var devices struct{ GPUs []json.RawMessage }
		if err := decode(it, &n); err != nil {
			return err
		}
		if err := decode(it, &devices); err != nil {
			return err
		}
		for i, g := range n.GPUs {
			item, err := ofNode(devices.GPUs[i], n.ID)
			if err != nil {
				return err
			}
			out.items = append(out.items, item)
			out.names = append(out.names, "gpu/"+g.UUID)
			out.rows = append(out.rows, gpuRow(n, g))
		}
		if !quiet(f.output) {
			sayHost(app.Err, n)
		}
	}
	return out.print(app, f.output)
}

// ofNode adds to a GPU which node it is of: a line by itself must say so.
func ofNode(gpu json.RawMessage, id functions.NodeID) (json.RawMessage, error) {
	fields := map[string]any{}
	if err := decode(gpu, &fields); err != nil {
		return nil, err
	}
	fields["node"] = id
	return json.Marshal(fields)
}

func gpuRow(n functions.NodeStatus, g functions.GPUInfo) []string {
	state := string(g.State)
	if !n.Alive {
		state = "silent" // whatever it was when the node was last heard
	}
	used, free, util := "?", "?", "?"
	if !g.ReadAt.IsZero() {
		used, free = g.Used.String(), g.Free.String()
		if g.Utilisation >= 0 {
			util = strconv.Itoa(g.Utilisation) + "%"
		}
	}
	total := "?"
	if g.Memory > 0 {
		total = g.Memory.String()
	}
	return []string{
		string(n.ID), strconv.Itoa(g.Index), strings.TrimSpace(g.Model + " " + g.Profile), state, fmt.Sprintf("%d of %d", len(g.Leases), max(g.MaxLeases, 1)),
		used, free, total, util, clock(g.Until), clip(g.Reason, 60), g.UUID, strings.Join(g.Can, " "), heldBy(g.Leases),
	}
}

// heldBy writes the tasks on a device, with what each was promised of it.
func heldBy(leases []functions.GPULease) string {
	var parts []string
	for _, l := range leases {
		what := "alone"
		if l.Memory > 0 {
			what = l.Memory.String()
		}
		parts = append(parts, string(l.Task)+" "+what)
	}
	return strings.Join(parts, ", ")
}

// clock writes a moment of today, or of another day, as this machine's clock has it.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	t = t.Local()
	if now := time.Now(); t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// sayHost tells what holds for all GPUs of a node.
func sayHost(w io.Writer, n functions.NodeStatus) {
	h := n.GPUHost
	switch {
	case h == nil:
		return
	case h.State == functions.GPUHostOff:
		until := ""
		if !h.Until.IsZero() {
			until = " until " + clock(h.Until)
		}
		fmt.Fprintf(w, "%s: its GPUs are off%s: %s\n", n.ID, until, h.Reason)
	case h.State == functions.GPUHostNone:
		fmt.Fprintf(w, "%s: no NVIDIA driver is installed\n", n.ID)
	}
	if h.Driver != "" {
		fmt.Fprintf(w, "%s: driver %s, CUDA up to %s, read by %s\n", n.ID, h.Driver, h.CUDA, h.Source)
	}
	for _, u := range h.Unsuited {
		fmt.Fprintf(w, "%s: does not run %s until %s: %s\n", n.ID, u.Image, clock(u.Until), u.Reason)
	}
}
