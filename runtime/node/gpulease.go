package node

import (
	"context"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// giveBackGPUs ends the lease of an attempt when nothing of it can use its devices
// any more, and then has them read: what it used is free for the next task at once,
// and not only with the next reading in turn.
func (n *Node) giveBackGPUs(work context.Context, a *attempt) {
	if len(a.devices) == 0 {
		a.release()
		return
	}
	again := func() {
		if _, ok := n.read(context.WithoutCancel(work), 0); ok {
			n.changed()
		}
	}
	if a.gone == nil {
		a.release() // before the end is told of: who hears of it may send the next task
		n.look.leaseEnded(n.cfg.Now())
		if n.cfg.Readings != nil {
			n.group.Go(again)
		}
		return
	}
	n.group.Go(func() {
		select {
		case <-a.gone:
		case <-n.leaving: // the next agent finds what is left by its labels
		}
		a.release()
		n.look.leaseEnded(n.cfg.Now())
		n.changed()
		again()
	})
}

// removeLater removes a container of which nobody knows whether it has ended, or
// will yet start. Its devices are held until it is gone.
func (n *Node) removeLater(ctx context.Context, a *attempt, id runtime.ID) {
	gone := make(chan struct{})
	a.gone = gone
	ctx = context.WithoutCancel(ctx)
	n.group.Go(func() { defer close(gone); n.remove(ctx, id) })
}

// blame tells the pool how an attempt on its devices ended.
func (n *Node) blame(a *attempt, f *functions.Failure) {
	if n.cfg.GPUs == nil || len(a.Leased) == 0 {
		return
	}
	n.cfg.GPUs.Report(f, a.Leased)
	if f != nil && (f.Class == functions.GPUImage || f.Class == functions.GPUUnsuited) {
		n.cfg.GPUs.Remember(a.spec.Image, f.Message)
	}
}
