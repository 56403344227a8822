package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/spillway/spillway/functions"
)

// logPatience is how long the store may keep an attempt from ending because of
// its log. Its last lines are in the outcome anyway.
const logPatience = 10 * time.Second

// closeLog ends the log and brings it to the store. A log that cannot be kept is
// no reason to fail an attempt.
func (n *Node) closeLog(ctx context.Context, a *attempt) (*functions.ObjectRef, string) {
	if err := a.output.finish(); err != nil {
		n.cfg.Log.Warn("log not complete", "task", a.key.task, "attempt", a.key.attempt, "err", err)
	}
	ending := a.output.ending()
	f, err := os.Open(a.folder.log())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ending // never launched
	}
	if err != nil {
		n.cfg.Log.Warn("log not stored", "task", a.key.task, "attempt", a.key.attempt, "err", err)
		return nil, ending
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, ending
	}
	ctx, done := n.outlive(ctx)
	defer done()
	ctx, cancel := context.WithTimeoutCause(ctx, logPatience+transferTime(info.Size())-time.Minute, functions.ErrTimeout)
	defer cancel()
	ref, err := n.put(ctx, a.prefix()+".log.jsonl", f, info.Size(), "application/x-ndjson")
	if err != nil {
		n.cfg.Log.Warn("log not stored", "task", a.key.task, "attempt", a.key.attempt, "err", err)
		return nil, ending
	}
	return &ref, ending
}
