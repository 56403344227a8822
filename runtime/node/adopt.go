package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// load reads what an earlier agent has left and returns the attempts to go on
// with. After a reboot of the machine, or when boot.json is gone, only those that
// had ended are left: the leader has seen the last of the boot that held the rest.
func (n *Node) load() ([]*attempt, error) {
	boot, fresh, err := loadBoot(n.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if err := n.cache.open(boot.Kernel); err != nil {
		return nil, err
	}
	n.images.open()
	if err := errors.Join(emptyWarm(n.cfg.DataDir), os.RemoveAll(n.doors())); err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob(filepath.Join(n.cfg.DataDir, "tasks", "*"))
	if err != nil {
		return nil, fmt.Errorf("list task folders: %w", err)
	}
	var held []*attempt
	for _, dir := range dirs {
		a, err := n.recall(dir, fresh)
		if err != nil {
			n.cfg.Log.Warn("task folder not understood", "folder", dir, "err", err)
		}
		if a == nil {
			if err := folder(dir).removeAll(); err != nil {
				return nil, err
			}
			continue
		}
		held = append(held, a)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.boot = boot
	for _, a := range held {
		n.attempts[a.key] = a
		n.used = n.used.Add(a.Assignment.Function.Needs(a.Assignment.Device))
		if a.state.Container != "" {
			n.warmed[a.state.Container] = true
		}
	}
	n.cfg.Log.Info("node state loaded", "boot", boot.Boot, "fresh", fresh, "held", len(held))
	return held, nil
}

// recall rebuilds one attempt from its folder; nil means that there is nothing to
// go on with.
func (n *Node) recall(dir string, fresh bool) (*attempt, error) {
	m, err := folder(dir).memory()
	if err != nil || m.Held == nil {
		return nil, err
	}
	if err := checkOrder(m.Held.Assignment); err != nil {
		return nil, err
	}
	a := newAttempt(n.cfg.DataDir, *m.Held)
	if string(a.folder) != dir {
		return nil, errors.New("the assignment is of another attempt")
	}
	if fresh && m.Outcome == nil {
		return nil, nil
	}
	if m.State != nil {
		a.state = *m.State
	}
	a.adopted, a.outcome = true, m.Outcome
	if len(a.Leased) > 0 && n.cfg.GPUs != nil {
		devices, release, err := n.cfg.GPUs.Restore(a.key.task, a.Assignment.Asks(), a.Leased)
		if err != nil {
			n.cfg.Log.Warn("GPU of a held attempt is gone", "task", a.key.task, "attempt", a.key.attempt, "err", err)
		} else {
			a.devices, a.release = devices, release
		}
	}
	return a, nil
}

// adopt looks for the container that an earlier agent has started for the attempt
// and takes up its output. An empty id means that there is none: the attempt
// begins from staging. It waits while the engine is away.
func (n *Node) adopt(ctx context.Context, a *attempt) (id runtime.ID, ended bool, fail *functions.Failure) {
	a.output.feed(n.cfg.Link.LogLines, a.news.offerLine)
	if !a.adopted {
		return "", false, nil
	}
	for {
		id, ended, err := n.takeUp(ctx, a)
		if err == nil {
			n.cfg.Log.Info("attempt adopted", "task", a.key.task, "attempt", a.key.attempt, "container", id)
			return id, ended, n.lostGPUs(a, id)
		}
		if !functions.Sleep(ctx, n.time.Probe/5) {
			f := &functions.Failure{Class: functions.Infra, Message: "find the container: " + err.Error()}
			if o, ok := ordered(ctx); ok {
				f = o.failure()
			}
			return "", false, f
		}
	}
}

func (n *Node) takeUp(ctx context.Context, a *attempt) (runtime.ID, bool, error) {
	bounded, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	found, err := n.containers(bounded, a)
	if err != nil {
		return "", false, err
	}
	for _, c := range found {
		idle, err := n.neverOrdered(bounded, a, c)
		if err != nil {
			return "", false, err
		}
		if idle || c.State == runtime.Created || a.state.StartedAt.IsZero() { // not started, or not by the promise we hold
			if err := n.cfg.Driver.Remove(bounded, c.ID); err != nil {
				return "", false, err
			}
			continue
		}
		stdout, stderr := a.output.streams()
		if err := n.cfg.Driver.Attach(bounded, c.ID, runtime.Streams{Stdout: stdout, Stderr: stderr}); err != nil {
			return "", false, err
		}
		return c.ID, c.State == runtime.Exited, nil
	}
	return "", false, nil
}

// lostGPUs refuses to start an attempt anew whose devices have gone meanwhile.
func (n *Node) lostGPUs(a *attempt, id runtime.ID) *functions.Failure {
	if id != "" || len(a.devices) == len(a.Leased) {
		return nil
	}
	return &functions.Failure{Class: functions.GPUDevice, Phase: functions.PhaseLaunch, Message: "a GPU of the attempt is not on the node any more"}
}

// containers lists the containers of one attempt: at most one.
func (n *Node) containers(ctx context.Context, a *attempt) ([]runtime.Info, error) {
	if id := a.state.Container; id != "" {
		all, err := n.cfg.Driver.List(ctx, map[string]string{runtime.LabelNode: string(n.cfg.ID)})
		return slices.DeleteFunc(all, func(c runtime.Info) bool { return c.ID != id }), err
	}
	return n.cfg.Driver.List(ctx, map[string]string{
		runtime.LabelNode:    string(n.cfg.ID),
		runtime.LabelTask:    string(a.key.task),
		runtime.LabelAttempt: strconv.Itoa(a.key.attempt),
	})
}

// sweep removes containers with the node's label that no attempt holds. Two
// searches in a row must find them: attempts come and go between the list and
// the comparison.
func (n *Node) sweep(ctx context.Context) {
	var suspects map[runtime.ID]bool
	for wait := min(10*time.Second, n.time.Sweep); functions.Sleep(ctx, wait); wait = n.time.Sweep {
		bounded, cancel := context.WithTimeout(ctx, undoTime)
		found, err := n.cfg.Driver.List(bounded, map[string]string{runtime.LabelNode: string(n.cfg.ID)})
		cancel()
		if err != nil {
			continue // the probe tells of it
		}
		next := make(map[runtime.ID]bool)
		for _, c := range found {
			if n.holds(c) {
				continue
			}
			if !suspects[c.ID] {
				next[c.ID] = true
				continue
			}
			n.cfg.Log.Info("container without attempt removed", "container", c.ID, "name", c.Name)
			bounded, cancel := context.WithTimeout(ctx, undoTime)
			err := n.cfg.Driver.Remove(bounded, c.ID)
			cancel()
			if err != nil {
				next[c.ID] = true
			}
		}
		suspects = next
	}
}

func (n *Node) holds(c runtime.Info) bool {
	if _, warm := c.Labels[runtime.LabelWarm]; warm {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.warmed[c.ID]
	}
	if _, serves := c.Labels[runtime.LabelServe]; serves {
		return n.served.Holds(c.Name)
	}
	if _, canary := c.Labels[runtime.LabelCanary]; canary {
		n.mu.Lock()
		defer n.mu.Unlock()
		return c.Name == n.canaryName
	}
	number, err := strconv.Atoi(c.Labels[runtime.LabelAttempt])
	if err != nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.attempts[key{functions.TaskID(c.Labels[runtime.LabelTask]), number}] != nil
}
