package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestWhatReadsTheGPUs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	smi := filepath.Join(dir, "nvidia-smi")
	if err := os.WriteFile(smi, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	for name, c := range map[string]struct {
		set   func(*NodeConfig)
		reads bool
		gpus  int
	}{
		"nvidia-smi alone":  {func(*NodeConfig) {}, true, 0},
		"off":               {func(n *NodeConfig) { n.GPUProbe = probeOff }, false, 0},
		"assumed":           {func(n *NodeConfig) { n.AssumeGPU = 2 }, false, 2},
		"a program":         {func(n *NodeConfig) { n.GPUProbe = "/opt/gpuprobe" }, true, 0},
		"simulated":         {func(n *NodeConfig) { n.Runtime = runtimeSimulated }, false, 0},
		"simulated, but so": {func(n *NodeConfig) { n.Runtime, n.AssumeGPU = runtimeSimulated, 1 }, false, 1},
	} {
		cfg := Default().Node
		c.set(&cfg)
		pool, readings, err := openGPUs(cfg, true, log)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if (readings != nil) != c.reads || len(pool.Snapshot()) != c.gpus {
			t.Errorf("%s: readings %v, %d devices", name, readings, len(pool.Snapshot()))
		}
	}
	cfg := Default().Node
	cfg.GPUProbe = "/opt/gpuprobe"
	if program, also := findProbe(cfg, log); program != "/opt/gpuprobe" || also != smi {
		t.Errorf("found %q, %q", program, also)
	}
	if err := os.Remove(smi); err != nil {
		t.Fatal(err)
	}
	pool, readings, err := openGPUs(Default().Node, true, log)
	if err != nil || readings != nil || pool.Host() != nil {
		t.Errorf("a machine without either: %v, %v, %v", readings, pool.Host(), err)
	}
}
