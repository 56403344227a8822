package webfetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// warmUp is how long a server may be slower than the slowest.
const warmUp = time.Minute

// paced reads a body and ends the request when it goes too slowly. It is used by
// one goroutine.
type paced struct {
	body   io.Reader
	cfg    Config
	cancel context.CancelCauseFunc
	timer  *time.Timer
	began  time.Time
	n      int64
	err    error // the body's own; io.EOF is none
}

func newPaced(body io.Reader, cfg Config, cancel context.CancelCauseFunc) *paced {
	p := &paced{body: body, cfg: cfg, cancel: cancel, began: time.Now()}
	p.timer = time.AfterFunc(cfg.Idle, func() {
		cancel(fmt.Errorf("the server is too slow: no byte for %s, under %s a second, or not done in %s", cfg.Idle, cfg.Slowest, cfg.Total))
	})
	return p
}

// patience is how long the next bytes may take.
func (p *paced) patience() time.Duration {
	earned := warmUp + time.Duration(float64(p.n)/float64(p.cfg.Slowest)*float64(time.Second))
	return max(0, min(p.cfg.Idle, min(p.cfg.Total, earned)-time.Since(p.began)))
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	p.timer.Reset(p.patience())
	n, err := p.body.Read(b)
	p.timer.Stop() // what is done with the bytes is not the server's fault
	p.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}

// stop ends the watch.
func (p *paced) stop() { p.timer.Stop() }
