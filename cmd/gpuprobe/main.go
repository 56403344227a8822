//go:build cgo

// Command gpuprobe reads this machine's NVIDIA GPUs and writes what it reads as
// lines of JSON: a probe.Report each. It is a program of its own because NVML
// needs C, because a call that an older driver lacks kills the process that makes
// it, and because a call to a GPU that fell off the bus may never return.
//
// A reading comes each -watch, and at once for each line on standard input; Xid
// errors come as they happen. The end of standard input ends it. It ends too when
// the driver cannot be asked, after a reading that says so, and when a GPU has
// been lost for a minute: what a process has loaded of a driver it keeps, so that
// only a new one sees that things were mended.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

// lostLimit is how long a GPU may be lost before a new process has to look.
const lostLimit = time.Minute

func main() {
	every := flag.Duration("watch", time.Second, "time between readings")
	once := flag.Bool("once", false, "write one reading and end")
	flag.Parse()
	if flag.NArg() > 0 || *every <= 0 {
		fmt.Fprintln(os.Stderr, "usage: gpuprobe [-once | -watch 1s]")
		os.Exit(2)
	}
	p := &prober{lib: nvml.New(), out: &lines{to: json.NewEncoder(os.Stdout)}, every: *every}
	if *once {
		exit(p.once())
	}
	asks := make(chan struct{}, 1)
	go func() {
		listen(os.Stdin, asks)
		os.Exit(0) // the parent is gone; a call into the driver may hold the rest
	}()
	exit(p.watch(context.Background(), asks))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpuprobe:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// listen passes the lines of in on, several that wait as one, and returns at its end.
func listen(in io.Reader, asks chan<- struct{}) {
	for s := bufio.NewScanner(in); s.Scan(); {
		select {
		case asks <- struct{}{}:
		default:
		}
	}
}

// lines writes reports, one each line. Two goroutines write.
type lines struct {
	mu sync.Mutex // guards to
	to *json.Encoder
}

func (l *lines) write(r probe.Report) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Encode(r)
}

type prober struct {
	lib   nvml.Interface
	out   *lines
	every time.Duration
	seen  Seen
	whole time.Time // when no GPU was lost last, or the first reading
}

// once writes one reading.
func (p *prober) once() error {
	_, err := p.read(initialise(p.lib))
	return err
}

// watch writes readings until a new process has to look, and events from a
// goroutine of their own. The error is that of the output.
func (p *prober) watch(ctx context.Context, asks <-chan struct{}) error {
	fault := initialise(p.lib)
	if fault == nil {
		events, err := subscribe(p.lib)
		if err != nil {
			fmt.Fprintln(os.Stderr, "gpuprobe: no Xid events:", err)
		} else {
			go events.run(ctx, func(e probe.Event) { _ = p.out.write(probe.Report{Event: &e}) })
		}
	}
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		if more, err := p.read(fault); err != nil || !more {
			return err
		}
		select {
		case <-tick.C:
		case <-asks:
		case <-ctx.Done():
			return nil
		}
	}
}

// read writes one reading: of the fault, or of the GPUs. It reports whether a
// further one is worth taking.
func (p *prober) read(fault *fault) (bool, error) {
	now := time.Now()
	reading := fault.reading(now)
	if fault == nil {
		if p.seen == nil {
			p.seen = Seen{}
		}
		reading = Take(p.lib, p.seen, now)
	}
	lost := slices.ContainsFunc(reading.Devices, func(d probe.Device) bool { return d.Lost })
	if !lost || p.whole.IsZero() {
		p.whole = now
	}
	more := reading.Status == probe.OK && now.Sub(p.whole) < lostLimit
	return more, p.out.write(probe.Report{Reading: &reading})
}
