package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// engineState is what the last probe said.
type engineState struct {
	what   string
	reason string // why it cannot be used; empty = it can
}

// beat sends a heartbeat each period, and at once when something has changed.
func (n *Node) beat(ctx context.Context) {
	refused := false
	for first := true; ; first = false {
		// Without a grant nothing can be admitted: a leader that has just begun
		// is asked again soon.
		patience, period := 2*n.time.Heartbeat, n.time.Heartbeat
		if first || refused {
			patience, period = n.time.Heartbeat/4, n.time.Heartbeat/4
		}
		sent := n.cfg.Now()
		bounded, cancel := context.WithTimeout(ctx, patience)
		err := n.cfg.Link.Heartbeat(bounded, n.heartbeat(sent))
		cancel()
		if err == nil {
			n.mu.Lock()
			n.granted = sent
			n.mu.Unlock()
		}
		if refused != (err != nil) && ctx.Err() == nil {
			refused = err != nil
			n.cfg.Log.Info("lease changed", "granted", !refused, "err", err)
		}
		timer := time.NewTimer(period)
		select {
		case <-timer.C:
		case <-n.nudge:
			timer.Stop()
			if !functions.Sleep(ctx, n.time.Heartbeat/20) { // many changes make one heartbeat
				return
			}
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// farewell tells the servers that the node takes nothing more. They find out by
// themselves when it is lost.
func (n *Node) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.time.Heartbeat)
	defer cancel()
	if err := n.cfg.Link.Heartbeat(ctx, n.heartbeat(n.cfg.Now())); err != nil {
		n.cfg.Log.Info("last heartbeat not heard", "err", err)
	}
}

func (n *Node) heartbeat(at time.Time) functions.Heartbeat {
	ready, why := n.ready()
	free, err := freeDisk(n.cfg.DataDir)
	if err != nil {
		free = 0
	}
	if why == "" {
		why = n.unknownGPUs(at)
		ready = why == ""
	}
	kept, warm := n.cache.info(), n.warm.counts()
	n.mu.Lock()
	defer n.mu.Unlock()
	hb := functions.Heartbeat{
		Node: functions.NodeInfo{
			ID: n.cfg.ID, Boot: n.boot.Boot, Version: n.cfg.Version, Driver: n.cfg.Driver.Name(), Engine: n.engine.what,
			Labels: n.cfg.Labels, Capacity: n.cfg.Capacity, Ready: ready, Reason: why, DiskFree: free, Cache: kept, Shares: n.shares, Warm: warm,
		},
		Running: []functions.Running{},
		At:      at,
	}
	if !n.opened {
		hb.Node.Ready, hb.Node.Reason = false, "the node's agent is starting or stopping"
	}
	if n.cfg.GPUs != nil {
		hb.Node.GPUs, hb.Node.GPUHost = n.cfg.GPUs.Snapshot(), n.cfg.GPUs.Host()
	}
	for _, a := range n.attempts {
		hb.Running = append(hb.Running, a.running())
	}
	slices.SortFunc(hb.Running, func(a, b functions.Running) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Attempt, b.Attempt))
	})
	return hb
}

// ready says whether the host can take tasks, and why not.
func (n *Node) ready() (bool, string) {
	err := n.room(0)
	if full, ok := errors.AsType[*roomError](err); ok {
		return false, fmt.Sprintf("%s of disk is free at %s, and the node keeps %s", full.free, n.cfg.DataDir, full.floor)
	}
	if err != nil {
		return false, err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.engine.reason == "", n.engine.reason
}

// probe asks the engine every few seconds whether it is there.
func (n *Node) probe(ctx context.Context) {
	for {
		bounded, cancel := context.WithTimeout(ctx, n.time.Probe)
		what, err := n.cfg.Driver.Probe(bounded)
		cancel()
		next := engineState{what: what}
		if err != nil {
			next.reason = "container engine unreachable: " + err.Error()
		}
		n.mu.Lock()
		turned := (next.reason == "") != (n.engine.reason == "")
		n.engine = next
		n.mu.Unlock()
		if turned && ctx.Err() == nil {
			n.cfg.Log.Info("engine changed", "engine", what, "err", err)
			n.changed()
		}
		if !functions.Sleep(ctx, n.time.Probe) {
			return
		}
	}
}
