package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/tasklog"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/node"
)

// newNode builds this machine's agent:
//
//	log (heartbeats, orders) <--> node --> driver --> containers
//	                               |
//	                             store (inputs, outputs, logs)
//
// local is nil unless this process is the store. release lets go of the driver;
// it is called when the node no longer runs.
func newNode(ctx context.Context, cfg Config, l *tasklog.Log, st *objects.Store, deployed node.Deployed, local node.Local, log *slog.Logger) (n *node.Node, release func(), err error) {
	chosen, err := openDriver(ctx, cfg, log)
	if err != nil {
		return nil, nil, err
	}
	if n, err = assemble(cfg, chosen, l, st, deployed, local, log); err != nil {
		chosen.release()
		return nil, nil, err
	}
	return n, chosen.release, nil
}

func assemble(cfg Config, chosen choice, l *tasklog.Log, st *objects.Store, deployed node.Deployed, local node.Local, log *slog.Logger) (*node.Node, error) {
	room, err := capacity(cfg.Node)
	if err != nil {
		return nil, err
	}
	floor, err := parseSize(cfg.Node.DiskFloor)
	if err != nil {
		return nil, err
	}
	cache, err := cacheSize(cfg)
	if err != nil {
		return nil, err
	}
	images, err := imageBudget(cfg)
	if err != nil {
		return nil, err
	}
	folders, err := openShares(cfg)
	if err != nil {
		return nil, err
	}
	web, err := openWeb(cfg)
	if err != nil {
		return nil, err
	}
	program, err := entry.Install(filepath.Join(cfg.Data, "entry"))
	if errors.Is(err, functions.ErrUnavailable) {
		log.Warn("containers are not kept warm, and http and lambda functions cannot run here", "err", err)
	} else if err != nil {
		return nil, err
	}
	if cfg.Node.Runtime == "simulated" {
		program = "" // what is simulated runs no program
	}
	var warm functions.Bytes
	if program != "" {
		if warm, err = warmMemory(cfg.Node, room); err != nil {
			return nil, err
		}
		room.Memory -= warm
	}
	driver, gpus, readings, err := nodeGPUs(cfg.Node, chosen.driver, program != "", log)
	if err != nil {
		return nil, err
	}
	return node.New(node.Config{
		ID: functions.NodeID(cfg.Node.ID), DataDir: filepath.Join(cfg.Data, "node"), Version: version,
		Driver: driver, Labels: map[string]string{functions.LabelRuntimeWhy: chosen.reason}, Objects: st, Local: local, Shares: folders, Web: web, Link: nodeLink{l}, GPUs: gpus, Readings: readings, Capacity: room, DiskFloor: floor, Cache: cache, ImageBudget: images, Entry: program,
		WarmMemory: warm, Deployed: deployed, Log: log,
	})
}

// nodeLink is the log as a node uses it. Attempts that end at the same time
// share a message, since the log syncs each message by itself. Such an event
// needs no message id: of two that report one end, the log's guard voids the
// second.
type nodeLink struct{ *tasklog.Log }

// Append implements node.Link.
func (l nodeLink) Append(ctx context.Context, msgID string, events ...functions.Event) (uint64, error) {
	if len(events) == 1 && events[0].Kind == functions.Finish {
		return l.Submit(ctx, events[0])
	}
	return l.Log.Append(ctx, msgID, events...)
}
