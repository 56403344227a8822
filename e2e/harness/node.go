package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/functions"
)

// NodeConfig is one `spillway node` of a server that has an Engine address.
type NodeConfig struct {
	ID   string
	Data string   // its own folder
	Args []string // more flags
	Log  io.Writer
}

// Node is a running `spillway node`.
type Node struct {
	ID string
	*child
}

// StartNode starts a node and waits until the server finds it ready.
func (s *Server) StartNode(ctx context.Context, cfg NodeConfig) (*Node, error) {
	b, err := os.ReadFile(filepath.Join(s.cfg.Data, "secrets.json"))
	if err != nil {
		return nil, fmt.Errorf("read the server's secrets: %w", err)
	}
	var keys struct {
		Token string `json:"engine_token"`
	}
	if err := json.Unmarshal(b, &keys); err != nil {
		return nil, fmt.Errorf("read the server's secrets: %w", err)
	}
	args := append([]string{"node", "--node-id", cfg.ID, "--data", cfg.Data, "--engine-url", "nats://" + s.cfg.Engine, "--store-endpoint", s.Store}, cfg.Args...)
	cmd := exec.Command(s.cfg.Bin, args...)
	cmd.Env = append(os.Environ(), "SPILLWAY_ENGINE_TOKEN="+keys.Token, "SPILLWAY_STORE_ACCESS_KEY="+s.S3Key, "SPILLWAY_STORE_SECRET_KEY="+s.S3Pass)
	cmd.Stdout, cmd.Stderr = cfg.Log, cfg.Log
	n := &Node{ID: cfg.ID}
	if n.child, err = startChild(cmd, s.cfg.In); err != nil {
		return nil, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if found, err := s.Node(ctx, cfg.ID); err == nil && found.Alive && found.Ready {
			return n, nil
		}
		select {
		case <-tick.C:
		case <-n.ended:
			return nil, fmt.Errorf("spillway node ended before it was ready: %v", n.err)
		case <-ctx.Done():
			n.Kill()
			return nil, fmt.Errorf("wait for spillway node: %w", context.Cause(ctx))
		}
	}
}

// Kill is kill -9. It returns when the process is gone.
func (n *Node) Kill() { n.kill() }

// Stop is SIGTERM; it returns the process's own end.
func (n *Node) Stop(grace time.Duration) error { return n.stop(grace) }

// Node is what the server says of a node.
func (s *Server) Node(ctx context.Context, id string) (functions.NodeStatus, error) {
	var page struct{ Nodes []functions.NodeStatus }
	if err := s.JSON(ctx, "GET", "/v1/nodes", nil, &page); err != nil {
		return functions.NodeStatus{}, err
	}
	for _, n := range page.Nodes {
		if string(n.ID) == id {
			return n, nil
		}
	}
	return functions.NodeStatus{}, functions.NotFound("no_node", "the server knows no node %s", id)
}
