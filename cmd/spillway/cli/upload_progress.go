package cli

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/spillway/spillway/functions"
)

const (
	lineEvery = 10 * time.Second       // between lines where there is no terminal
	barEvery  = 200 * time.Millisecond // between looks of the bar
	window    = 10 * time.Second       // that the speed is taken over
)

// progress shows how far a file is: a bar on a terminal, a line now and then
// elsewhere, nothing when quiet.
type progress struct {
	meter *meter
	name  string
	err   io.Writer
	quiet bool
	bars  *mpb.Progress // nil without a terminal
	bar   *mpb.Bar
	begun time.Time
	quit  chan struct{}
	done  chan struct{}
	mu    sync.Mutex // guards what is written to err
}

// startProgress begins to show a file of size bytes. stop ends that.
func startProgress(w io.Writer, quiet bool, name string, size int64) *progress {
	p := &progress{meter: &meter{total: size}, name: name, err: w, quiet: quiet, begun: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	p.meter.look(p.begun)
	every := lineEvery
	switch {
	case quiet:
		close(p.done)
		return p
	case terminal(w):
		every = barEvery
		p.bars = mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh())
		p.bar = p.bars.AddBar(size, mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.meter.String() })))
	default:
		fmt.Fprintf(w, "uploading %s: %s\n", name, functions.Bytes(size))
	}
	go p.run(every)
	return p
}

func (p *progress) run(every time.Duration) {
	defer close(p.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.meter.look(now)
			if p.bar != nil {
				p.bar.SetCurrent(p.meter.at())
			} else {
				p.say("%s: %s", p.name, p.meter)
			}
		case <-p.quit:
			return
		}
	}
}

// say writes a line, above the bar if there is one.
func (p *progress) say(format string, args ...any) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var to io.Writer = p.err
	if p.bars != nil {
		to = p.bars
	}
	fmt.Fprintf(to, format+"\n", args...)
}

// skip counts bytes that the store has already.
func (p *progress) skip(n int64) { p.meter.held.Add(n) }

// reader counts what is read from r as sent.
func (p *progress) reader(r io.Reader) *counted { return &counted{r: r, m: p.meter} }

// finish says that the file is there.
func (p *progress) finish() {
	held := ""
	if n := p.meter.held.Load(); n > 0 {
		held = fmt.Sprintf(", %s of it before", functions.Bytes(n))
	}
	p.say("uploaded %s: %s in %s%s", p.name, functions.Bytes(p.meter.total), time.Since(p.begun).Round(100*time.Millisecond), held)
}

// stop takes the bar away.
func (p *progress) stop() {
	if p.quiet {
		return
	}
	close(p.quit)
	<-p.done
	if p.bars != nil {
		p.bar.Abort(true)
		p.bars.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.bars = nil
	}
}

// meter counts bytes and tells the speed. look and at are its readers' side;
// counting may happen from many goroutines.
type meter struct {
	total int64
	sent  atomic.Int64 // by this process
	held  atomic.Int64 // by the store before

	seen  []mark // of the last window, oldest first; only used by look
	speed atomic.Int64
}

type mark struct {
	at   time.Time
	sent int64
}

// look takes a sample and works out the speed over the window.
func (m *meter) look(now time.Time) {
	m.seen = append(m.seen, mark{now, m.sent.Load()})
	for len(m.seen) > 2 && now.Sub(m.seen[1].at) >= window {
		m.seen = m.seen[1:]
	}
	first, last := m.seen[0], m.seen[len(m.seen)-1]
	if d := last.at.Sub(first.at); d > 0 {
		m.speed.Store(max(0, int64(float64(last.sent-first.sent)/d.Seconds())))
	}
}

// at is how many bytes are there or on their way.
func (m *meter) at() int64 { return min(m.total, m.sent.Load()+m.held.Load()) }

// String is "45% 540.0MiB of 1.2GiB, 53.1MiB/s, 12s left".
func (m *meter) String() string {
	at, speed := m.at(), m.speed.Load()
	percent := int64(100)
	if m.total > 0 {
		percent = int64(float64(at) / float64(m.total) * 100)
	}
	s := fmt.Sprintf("%d%% %s of %s", percent, functions.Bytes(at), functions.Bytes(m.total))
	if speed == 0 {
		return s
	}
	left := time.Duration(float64(m.total-at) / float64(speed) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%s, %s/s, %s left", s, functions.Bytes(speed), left)
}

// counted counts a body into a meter, and can take it back when it did not
// arrive.
type counted struct {
	r io.Reader
	m *meter
	n atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	c.m.sent.Add(int64(n))
	return n, err
}

func (c *counted) takeBack() { c.m.sent.Add(-c.n.Swap(0)) }
