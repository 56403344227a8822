package tasklog

import (
	"context"
	"errors"
	"testing"

	"github.com/spillway/spillway/functions"
)

// withGPUs is a node that has some; readmitted is what it was asked for.
type withGPUs struct {
	node
	readmitted chan string
}

func (n *withGPUs) Readmit(_ context.Context, uuid string) error {
	if uuid != "" && uuid != "GPU-1" {
		return functions.NotFound("no_such_gpu", "no GPU is named %s", uuid)
	}
	n.readmitted <- uuid
	return nil
}

func TestReadmitReachesTheNode(t *testing.T) {
	s := startServer(t, t.TempDir())
	nodeSide, serverSide := openLog(t, s), openLog(t, s)
	h := &withGPUs{readmitted: make(chan string, 2)}
	background(t, func(ctx context.Context) error { return nodeSide.ServeNode(ctx, "n1", h) })
	background(t, func(ctx context.Context) error { return nodeSide.ServeNode(ctx, "n2", &node{}) })
	for _, uuid := range []string{"GPU-1", ""} {
		if err := whenConnected(t, func() error { return serverSide.Readmit(t.Context(), "n1", uuid) }); err != nil {
			t.Errorf("%q: %v", uuid, err)
		}
		if got := <-h.readmitted; got != uuid {
			t.Errorf("the node was asked for %q, not for %q", got, uuid)
		}
	}
	for node, uuid := range map[functions.NodeID]string{"n1": "GPU-9", "n2": "GPU-1"} {
		err := whenConnected(t, func() error { return serverSide.Readmit(t.Context(), node, uuid) })
		if e, ok := errors.AsType[*functions.Error](err); !ok || !errors.Is(err, functions.ErrNotFound) || e.Code != "no_such_gpu" {
			t.Errorf("%s on %s: %v", uuid, node, err)
		}
	}
	if err := serverSide.Readmit(t.Context(), "n9", ""); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("a node that is not connected: %v", err)
	}
}
