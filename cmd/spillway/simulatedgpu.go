package main

import (
	"log/slog"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/gpusim"
)

// simulatedGPUs are the devices that --simulate-gpu puts beside any runtime, or
// nil: the source of the node's readings, and what wraps its driver.
func simulatedGPUs(cfg NodeConfig, log *slog.Logger) (*gpusim.Host, error) {
	switch {
	case cfg.SimulateGPU == "" && (len(cfg.Fail) > 0 || cfg.FailFile != ""):
		return nil, functions.Invalid("bad_config", "fail: only simulated GPUs fail on demand").WithField("fail").
			WithHint("say which, as with --simulate-gpu 2x80GiB")
	case cfg.SimulateGPU == "":
		return nil, nil
	case cfg.AssumeGPU > 0:
		return nil, functions.Invalid("bad_config", "simulate-gpu: a node has simulated GPUs or assumed ones, not both").WithField("simulate-gpu").
			WithHint("drop --assume-gpu")
	}
	devices, err := gpusim.ParseDevices(cfg.SimulateGPU, functions.NodeID(cfg.ID))
	if err != nil {
		return nil, err
	}
	fixed, err := gpusim.ParseFaults(cfg.Fail, len(devices))
	if err != nil {
		return nil, err
	}
	faults := gpusim.NewFaults(fixed, cfg.FailFile, len(devices), cfg.FailSeed, log.With("component", "gpusim"))
	return gpusim.New(gpusim.Config{Devices: devices, Faults: faults}), nil
}
