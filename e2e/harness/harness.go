// Package harness starts the built spillway binary as a real process and speaks
// to it from outside, as its users do. The demo, the end-to-end tests and the
// benchmarks stand on it.
package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is one `spillway up`, or one `spillway server` when Engine is given.
type Config struct {
	Bin    string   // the binary
	Data   string   // its data folder
	Args   []string // more flags
	Env    []string // more environment
	Log    io.Writer
	Ports  *Ports     // nil = free ones
	Engine string     // address where nodes connect: a server without a node of its own
	In     *Namespace // where it runs
	From   *Namespace // where this process calls it from
}

// Ports are fixed so that a restarted process keeps its addresses.
type Ports struct{ Gateway, Store string }

// URLs is what the process says of itself when it is ready.
type URLs struct {
	Gateway string `json:"gateway"`
	Store   string `json:"store"`
	APIKey  string `json:"api_key_file"`
	S3Key   string `json:"store_access_key"`
	S3Pass  string `json:"store_secret_key"`
}

// Server is a running process.
type Server struct {
	URLs
	cfg    Config
	client *http.Client
	*child
}

// Start runs the process and waits until it is ready.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Ports == nil {
		p, err := FreePorts()
		if err != nil {
			return nil, err
		}
		cfg.Ports = p
	}
	s := &Server{cfg: cfg, client: client}
	if cfg.From != nil {
		s.client = &http.Client{Transport: Transport(cfg.From), Timeout: time.Minute}
	}
	if err := s.launch(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) launch(ctx context.Context) error {
	ready := filepath.Join(s.cfg.Data, "ready.json")
	if err := os.MkdirAll(s.cfg.Data, 0o711); err != nil {
		return err
	}
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	role := []string{"up"}
	if s.cfg.Engine != "" {
		role = []string{"server", "--engine-listen", s.cfg.Engine}
	}
	args := slices.Concat(role, []string{"--data", s.cfg.Data, "--listen", s.cfg.Ports.Gateway, "--store-listen", s.cfg.Ports.Store, "--ready-file", ready}, s.cfg.Args)
	cmd := exec.Command(s.cfg.Bin, args...)
	cmd.Env = append(os.Environ(), s.cfg.Env...)
	cmd.Stdout, cmd.Stderr = s.cfg.Log, s.cfg.Log
	var err error
	if s.child, err = startChild(cmd, s.cfg.In); err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if b, err := os.ReadFile(ready); err == nil {
			if err := json.Unmarshal(b, &s.URLs); err != nil {
				return fmt.Errorf("read %s: %w", ready, err)
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return fmt.Errorf("spillway %s ended before it was ready: %v", role[0], s.err)
		case <-ctx.Done():
			s.Kill()
			return fmt.Errorf("wait for spillway %s: %w", role[0], context.Cause(ctx))
		}
	}
}

// Data is the process's folder.
func (s *Server) Data() string { return s.cfg.Data }

// Pid is the process's id.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill is kill -9. It returns when the process is gone.
func (s *Server) Kill() { s.kill() }

// Stop is SIGTERM; it returns the process's own end.
func (s *Server) Stop(grace time.Duration) error { return s.stop(grace) }

// Restart launches the process again on the same data and ports, after Kill or Stop.
func (s *Server) Restart(ctx context.Context) error { return s.launch(ctx) }

// CLI runs a client command against the server and returns its output.
func (s *Server) CLI(ctx context.Context, args ...string) (stdout string, err error) {
	cmd := exec.CommandContext(ctx, s.cfg.Bin, args...)
	cmd.Env = append(os.Environ(), "SPILLWAY_URL="+s.Gateway, "SPILLWAY_API_KEY_FILE="+s.APIKey)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("spillway %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}
