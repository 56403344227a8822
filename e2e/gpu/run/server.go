package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// server is `spillway up` on this machine with one runtime.
type server struct {
	*harness.Server
	runtime string
	log     *os.File
	assumed bool // its GPUs are claimed, as it has no probe
}

// The limits of waiting.
const (
	readyLimit = time.Minute
	gpuLimit   = 20 * time.Second // until a node has read its GPUs, and tried one
	taskLimit  = 45 * time.Minute
)

// start starts one, with the images loaded. A node that sees no GPU by itself
// is told how many there are.
func (j *job) start(ctx context.Context, runtime string) (*server, error) {
	data := filepath.Join(j.work, runtime)
	args := []string{"--runtime", runtime, "--cdi-dir", j.devices.dir, "--node-id", "gpu-test"}
	load := []string{"images", "load", "--runtime", runtime, "--data", data}
	switch runtime {
	case "containerd":
		args = append(args, "--containerd", j.engine.address)
		load = append(load, "--containerd", j.engine.address)
	case "oci":
		args = append(args, "--oci-runtime", filepath.Join(j.bundle, "bin", "runc"))
	default:
		return nil, fmt.Errorf("there is no runtime %q; take containerd or oci", runtime)
	}
	bin := filepath.Join(j.bundle, "bin", "spillway")
	if _, err := os.Stat(data); err != nil {
		if err := os.MkdirAll(data, 0o711); err != nil {
			return nil, err
		}
		if out, err := j.program(ctx, bin, append(load, filepath.Join(j.bundle, "images", "speech.tar"))...); err != nil {
			return nil, fmt.Errorf("load the images: %w: %s", err, out)
		}
	}
	log, err := os.OpenFile(filepath.Join(j.work, runtime+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	s := &server{runtime: runtime, log: log, assumed: j.assume}
	if s.assumed {
		args = append(args, "--assume-gpu", strconv.Itoa(j.devices.count()))
	}
	if err := s.up(ctx, harness.Config{Bin: bin, Data: data, Args: args, Env: []string{j.path()}, Log: log}); err != nil {
		log.Close()
		return nil, err
	}
	if s.assumed {
		return s, nil
	}
	if node, err := s.node(ctx, true); err != nil || len(node.GPUs) > 0 {
		return s, err
	}
	s.stop()
	j.assume = true
	return j.start(ctx, runtime)
}

func (s *server) up(ctx context.Context, c harness.Config) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	var err error
	if s.Server, err = harness.Start(ctx, c); err != nil {
		return fmt.Errorf("%w: %s", err, tail(s.log.Name()))
	}
	_, err = s.node(ctx, false)
	return err
}

func (s *server) stop() {
	if err := s.Stop(readyLimit); err != nil {
		fmt.Fprintln(os.Stderr, "run: stop spillway:", err)
	}
	s.log.Close()
}

// offers reports whether a node has a GPU that a task can get.
func offers(n functions.NodeStatus) bool {
	return slices.ContainsFunc(n.GPUs, func(g functions.GPUInfo) bool { return g.State.Healthy() })
}

// node waits until the node is ready, and with gpus until it offers some, or for a while.
func (s *server) node(ctx context.Context, gpus bool) (functions.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	late := time.Now().Add(gpuLimit)
	for {
		var all struct{ Nodes []functions.NodeStatus }
		err := s.JSON(ctx, "GET", "/v1/nodes", nil, &all)
		if err == nil && len(all.Nodes) == 1 && all.Nodes[0].Ready && (!gpus || offers(all.Nodes[0]) || time.Now().After(late)) {
			return all.Nodes[0], nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			why := "there is none"
			if len(all.Nodes) > 0 {
				why = all.Nodes[0].Reason
			}
			return functions.NodeStatus{}, fmt.Errorf("the node is not ready: %s", why)
		}
	}
}

// deploy deploys a function that runs a command of speech, from one of the images.
func (s *server) deploy(ctx context.Context, name, image, command string, more ...string) error {
	spec := fmt.Sprintf("name: %s\nimage: spillway/%s:latest\ncommand: [%s]\n%s\n", name, image, strings.Join(strings.Fields(command), ", "), strings.Join(more, "\n"))
	_, _, _, err := s.Call(ctx, "POST", "/v1/functions", map[string]string{"Content-Type": "application/yaml"}, strings.NewReader(spec))
	if err != nil {
		return fmt.Errorf("deploy %s: %w", name, err)
	}
	return nil
}

// call runs one task to its end. The result is what speech wrote; an end other
// than success is no error.
func (s *server) call(ctx context.Context, function string, device functions.Policy, result any) (harness.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, taskLimit)
	defer cancel()
	id, err := s.Submit(ctx, function, `{}`, map[string]string{"Spillway-Device": string(device)})
	if err != nil {
		return harness.Task{}, err
	}
	task, err := s.WaitTask(ctx, id)
	if err != nil || result == nil || task.Status != string(functions.Succeeded) {
		return task, err
	}
	return task, s.JSON(ctx, "GET", "/v1/tasks/"+string(id)+"/result", nil, result)
}
