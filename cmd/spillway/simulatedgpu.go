package main

import (
	"log/slog"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu"
	"github.com/spillway/spillway/runtime/gpu/gpusim"
	"github.com/spillway/spillway/runtime/node"
)

// nodeGPUs are the GPUs that a node has, what reads them, and the driver that
// gives them to containers: those of the machine, or simulated ones in their place.
// canary: the node can try them with a container of its own.
func nodeGPUs(cfg NodeConfig, d runtime.Driver, canary bool, log *slog.Logger) (runtime.Driver, *gpu.Pool, node.Readings, error) {
	simulated, err := simulatedGPUs(cfg, log)
	if err != nil {
		return nil, nil, nil, err
	}
	if simulated == nil {
		p, readings, err := openGPUs(cfg, canary, log)
		return d, p, readings, err
	}
	p, err := gpu.New(gpu.Config{MaxLeases: cfg.MaxPerGPU, Canary: canary})
	return simulated.Wrap(d), p, simulated, err
}

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
	case cfg.GPUProbe != "" && cfg.GPUProbe != probeAuto && cfg.GPUProbe != probeOff:
		return nil, functions.Invalid("bad_config", "gpu-probe: reads real GPUs, and those of --simulate-gpu are none").WithField("gpu-probe").
			WithHint("drop one of them")
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
