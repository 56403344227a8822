package gateway

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/spillway/spillway/functions"
)

type nodeList struct {
	Nodes []functions.NodeStatus `json:"nodes"`
}

func (g *Gateway) nodes() []functions.NodeStatus {
	nodes := slices.Clone(g.cfg.Scheduler.Nodes())
	slices.SortFunc(nodes, func(a, b functions.NodeStatus) int { return cmp.Compare(a.ID, b.ID) })
	for i := range nodes {
		if nodes[i].Running == nil {
			nodes[i].Running = []functions.Running{}
		}
	}
	return nodes
}

func (g *Gateway) listNodes(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, nodeList{append([]functions.NodeStatus{}, g.nodes()...)})
}

func (g *Gateway) getNode(w http.ResponseWriter, r *http.Request) error {
	n, err := g.nodeOf(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, n)
}

// nodeOf is the node that the path names.
func (g *Gateway) nodeOf(r *http.Request) (functions.NodeStatus, error) {
	id := functions.NodeID(pathValue(r, "id"))
	if err := id.Validate(); err != nil {
		return functions.NodeStatus{}, err
	}
	for _, n := range g.nodes() {
		if n.ID == id {
			return n, nil
		}
	}
	return functions.NodeStatus{}, functions.NotFound("no_such_node", "no node is named %s", id).WithHint("GET /v1/nodes lists them")
}
