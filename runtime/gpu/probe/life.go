package probe

import (
	"context"
	"fmt"
	"time"
)

const (
	firstPause = time.Second
	// longPause is the longest before a probe is started again, and the one before
	// a host without a driver is asked whether it has got one.
	longPause = time.Minute

	// A probe that says nothing is killed after as many times Config.Stale. Before
	// its first reading it has longer: without nvidia-persistenced a driver may take
	// seconds to wake each GPU.
	patience      = 3
	firstPatience = 20
)

// pause is the time before the next life of a probe, after failed ones in a row.
// One that ended well is followed before its last reading is stale.
func pause(s Status, failed int) time.Duration {
	switch s {
	case OK:
		return firstPause
	case NoDriver:
		return longPause
	}
	return min(firstPause<<min(failed, 10), longPause)
}

func silence(format string, args ...any) Reading {
	return Reading{At: time.Now(), Source: "nvml", Status: Silent, Message: fmt.Sprintf(format, args...)}
}

// live reads until that works no more, and returns the last status reported.
func (w *Watcher) live(ctx context.Context) Status {
	if w.cfg.Program == "" {
		return w.poll(ctx)
	}
	status, unusable := w.follow(ctx)
	if unusable == "" {
		return status
	}
	if w.cfg.SMI == "" {
		w.say(silence("%s", unusable))
		return Silent
	}
	w.cfg.Log.Warn("nvidia-smi is asked instead of gpuprobe", "why", unusable)
	return w.poll(ctx)
}

// poll asks nvidia-smi for as long as it answers.
func (w *Watcher) poll(ctx context.Context) Status {
	for {
		r := w.ask(ctx)
		if ctx.Err() != nil {
			return Silent
		}
		w.say(r)
		if r.Status != OK {
			return r.Status
		}
		timer := time.NewTimer(w.cfg.Every)
		select {
		case <-timer.C:
		case <-w.pokes:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// follow runs gpuprobe for one life. unusable says why it can do nothing on this
// machine; then nothing was reported.
func (w *Watcher) follow(ctx context.Context) (status Status, unusable string) {
	c, err := w.start()
	if err != nil {
		return "", "gpuprobe cannot be started: " + err.Error()
	}
	defer c.stop()
	var (
		heard    = time.Now()
		quiet    = time.NewTimer(w.cfg.Stale)
		limit    = firstPatience * w.cfg.Stale
		nonsense string
		asked    bool // and not answered: a probe that hangs is not asked on until its input is full
	)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return Silent, ""
		case <-w.pokes:
			if !asked {
				asked = true
				c.ask()
			}
		case l, more := <-c.lines:
			switch {
			case !more:
				return w.ended(c.end(), status)
			case l.err != nil:
				if nonsense == "" {
					w.cfg.Log.Warn("gpuprobe wrote a line that is no report", "err", l.err)
				}
				nonsense = "; it wrote a line that is no report: " + l.err.Error()
			case l.Reading != nil:
				heard, limit = time.Now(), patience*w.cfg.Stale
				quiet.Reset(w.cfg.Stale)
				status = l.Reading.Status
				w.say(*l.Reading)
				if asked = w.wanted(); asked { // it had begun before somebody asked
					c.ask()
				}
			case l.Event != nil:
				w.report(l.Report)
			}
		case <-quiet.C:
			waited := time.Since(heard)
			if waited >= limit {
				w.say(silence("gpuprobe gave no reading for %v and is killed: the driver may hang; dmesg may say why%s", waited.Round(time.Millisecond), nonsense))
				return Silent, ""
			}
			w.say(silence("gpuprobe has given no reading for %v: the driver hangs, or is slow without nvidia-persistenced%s", waited.Round(time.Millisecond), nonsense))
			quiet.Reset(limit - waited)
		}
	}
}

// ended judges the end of a probe that nobody stopped. It ends by itself, and well,
// when a new one has to look.
func (w *Watcher) ended(how end, last Status) (status Status, unusable string) {
	if how.code == 0 && last != "" {
		return last, ""
	}
	if how.code == symbolMissing && last == "" {
		return "", "gpuprobe cannot work with this machine's libraries: " + how.text
	}
	w.say(silence("gpuprobe died: %s", how.text))
	return Silent, ""
}
