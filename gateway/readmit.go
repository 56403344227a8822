package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/spillway/spillway/functions"
)

// Nodes carries orders to nodes.
type Nodes interface {
	// Readmit has a node offer a GPU again that it has quarantined or ejected; an
	// empty uuid means all of its GPUs. A node that is not connected is
	// ErrUnavailable, one that does not answer ErrTimeout, a GPU that it has not
	// ErrNotFound.
	Readmit(ctx context.Context, node functions.NodeID, uuid string) error
}

// allGPUs names every GPU of a node, in the place of one.
const allGPUs = "all"

// readmit ends the quarantine or the ejection of a GPU on a person's word.
// Readmitting one that is offered anyway is answered like any other.
func (g *Gateway) readmit(w http.ResponseWriter, r *http.Request) error {
	n, err := g.nodeOf(r)
	if err != nil {
		return err
	}
	uuid := pathValue(r, "uuid")
	known := slices.ContainsFunc(n.GPUs, func(d functions.GPUInfo) bool { return d.UUID == uuid })
	switch {
	case uuid == allGPUs && (len(n.GPUs) > 0 || n.GPUHost != nil): // a host whose driver fails shows no device
		uuid = ""
	case !known:
		return functions.NotFound("no_such_gpu", "node %s has no GPU %.80q", n.ID, uuid).
			WithHint("GET /v1/nodes/%s lists them; all means every one", n.ID)
	}
	err = g.cfg.Nodes.Readmit(r.Context(), n.ID, uuid)
	if errors.Is(err, functions.ErrTimeout) || errors.Is(err, functions.ErrUnavailable) {
		return functions.Unavailable("node_silent", "node %s does not answer", n.ID).
			WithHint("nothing has changed, or it is not known yet: look at /v1/nodes/%s and try again", n.ID).WithCause(err)
	}
	if err != nil {
		return err
	}
	g.log.Info("GPU readmitted", "node", n.ID, "gpu", pathValue(r, "uuid"))
	w.WriteHeader(http.StatusNoContent)
	return nil
}
