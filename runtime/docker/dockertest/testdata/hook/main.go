// Command hook stands in for nvidia-container-runtime-hook: the engine runs it
// before a GPU container starts. What it does, the file says that
// SPILLWAY_FAKE_GPU_MODE names; its words are those of nvidia-container-cli.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var words = map[string]string{
	"initerr": "nvidia-container-cli: initialization error: nvml error: driver not loaded",
	"loadlib": "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory",
	"nocli":   `couldn't find binary nvidia-container-cli in PATH: exec: "nvidia-container-cli": executable file not found in $PATH`,
	"perm":    "nvidia-container-cli: mount error: failed to add device rules: bpf_prog_query(BPF_CGROUP_DEVICE) failed: permission denied",
	"unknown": "nvidia-container-cli: device error: 7: unknown device",
	"cuda":    "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=99.0, please update your driver to a newer version, or use an earlier cuda container",
	"silent":  "",
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var state struct {
		Bundle string `json:"bundle"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&state); err != nil {
		return fmt.Errorf("fake hook: read the container's state: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(state.Bundle, "config.json"))
	if err != nil {
		return fmt.Errorf("fake hook: %w", err)
	}
	var config struct {
		Root    struct{ Path string }
		Process struct{ Env []string }
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("fake hook: %w", err)
	}
	var devices []string
	for _, kv := range config.Process.Env {
		if v, ok := strings.CutPrefix(kv, "NVIDIA_VISIBLE_DEVICES="); ok && v != "void" {
			devices = strings.Split(v, ",")
		}
	}
	mode, err := os.ReadFile(os.Getenv("SPILLWAY_FAKE_GPU_MODE"))
	if err != nil {
		return fmt.Errorf("fake hook: %w", err)
	}
	verb, arg, _ := strings.Cut(strings.TrimSpace(string(mode)), " ")
	switch verb {
	case "ok":
	case "slow":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return fmt.Errorf("fake hook: %w", err)
		}
		time.Sleep(d)
	case "refuse":
		if slices.Contains(devices, arg) {
			return fmt.Errorf("nvidia-container-cli: device error: %s: unknown device", arg)
		}
	default:
		text, ok := words[verb]
		if !ok {
			return fmt.Errorf("fake hook: no mode %q", verb)
		}
		if text != "" {
			fmt.Fprintln(os.Stderr, text)
		}
		os.Exit(1)
	}
	root := config.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(state.Bundle, root)
	}
	marker := filepath.Join(root, "opt", "fake-gpu")
	if err := os.MkdirAll(filepath.Dir(marker), 0o755); err != nil {
		return fmt.Errorf("fake hook: %w", err)
	}
	return os.WriteFile(marker, []byte(strings.Join(devices, ",")), 0o644)
}
