package main

import (
	"log/slog"
	"os"

	"github.com/spillway/spillway/runtime/gpu"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/node"
)

// The words of node.gpu_probe that are no path.
const (
	probeAuto = "auto"
	probeOff  = "off"
)

// openGPUs makes the pool of this machine's GPUs, and what reads them. Without a
// probe the pool keeps what it was told, and readings are nil. canary: the node can
// try the GPUs with a container of its own.
func openGPUs(cfg NodeConfig, canary bool, log *slog.Logger) (*gpu.Pool, node.Readings, error) {
	program, smi := findProbe(cfg, log)
	if program == "" && smi == "" {
		p, err := gpu.New(gpu.Config{Devices: gpu.Assumed(cfg.AssumeGPU), MaxLeases: cfg.MaxPerGPU})
		return p, nil, err
	}
	p, err := gpu.New(gpu.Config{MaxLeases: cfg.MaxPerGPU, Canary: canary})
	if err != nil {
		return nil, nil, err
	}
	return p, probe.New(probe.Config{Program: program, SMI: smi, Log: log}), nil
}

// findProbe returns the programs that read the GPUs; empty = none does.
func findProbe(cfg NodeConfig, log *slog.Logger) (program, smi string) {
	if cfg.AssumeGPU > 0 || cfg.GPUProbe == probeOff || cfg.Runtime == runtimeSimulated {
		return "", ""
	}
	self, err := os.Executable()
	if err != nil {
		log.Warn("gpuprobe is looked for in PATH alone", "err", err)
	}
	program, smi = probe.Find(self)
	if cfg.GPUProbe != probeAuto {
		program = cfg.GPUProbe
	}
	if program == "" && smi == "" {
		if _, err := os.Stat(driverFiles); err == nil {
			log.Warn("this machine has an NVIDIA driver, and nothing reads its GPUs: put gpuprobe beside spillway, or nvidia-smi into PATH")
		}
	}
	return program, smi
}

// driverFiles are there while NVIDIA's kernel module is loaded.
const driverFiles = "/proc/driver/nvidia"
