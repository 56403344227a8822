package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/e2e/bench/launch"
	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/e2e/bench/results"
)

// setBurst is the third comparison of the step.
const setBurst = "Bursts on waiting containers: all calls at the same moment, to each one's result"

// contender is one way to launch, of any kind.
type contender struct {
	name    string
	ours    bool
	once    measure.Op
	note    func() string // of the row; nil = none
	close   func() error
	version string
}

// launch compares the ways to run one container that does nothing.
func (b *bench) launch(ctx context.Context) (err error) {
	dir := filepath.Join(b.dir, "l")
	all, img, err := b.contenders(ctx, dir)
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.close())
		}
	}()
	if err != nil {
		return err
	}
	b.step.Notes = append(b.step.Notes,
		"The same image and program (/box exit 0), 64 MiB, one core, 64 processes, no network, a read-only root, not root. Docker, its driver "+
			"and ctr apply their default seccomp profile; runc and crun run without one and without an overlay, on a plain folder.",
		"Latency ends when the caller knows the exit; removal comes after it and counts in rate and processor time. Calls alternate between the ways. "+
			"Processor time is the whole machine's, its share without the calls taken off.")
	if err := b.launchSerial(ctx, all); err != nil {
		return err
	}
	if err := b.launchRates(ctx, all); err != nil {
		return err
	}
	return b.bursts(ctx, img)
}

// contenders opens every way; those that this machine lacks become rows that say so.
func (b *bench) contenders(ctx context.Context, dir string) (all []contender, img *launch.Image, err error) {
	if img, err = launch.BuildImage(ctx, dir); err != nil {
		return nil, nil, err
	}
	for _, o := range launch.Openers() {
		progress("launch: open %s", o.Name)
		peer, err := o.Open(ctx, dir, img)
		if errors.Is(err, measure.ErrSkip) {
			b.add(results.Row{Set: results.LaunchSerial, Name: o.Name, Ours: o.Ours, Skipped: err.Error()})
			continue
		}
		if err != nil {
			return all, nil, fmt.Errorf("open %s: %w", o.Name, err)
		}
		all = append(all, contender{name: o.Name, ours: o.Ours, once: peer.Once, close: peer.Close, version: peer.Version})
	}
	whole, err := b.wholeSystems(ctx, img)
	return append(all, whole...), img, err
}

// launchSerial is the ladder of latencies.
func (b *bench) launchSerial(ctx context.Context, all []contender) error {
	progress("launch: %d calls of each of %d ways, one at a time", b.n, len(all))
	ops := make([]measure.Op, len(all))
	for i, c := range all {
		ops[i] = c.once
	}
	serial := measure.Serial{Rounds: b.n, Warmup: 2, Settle: 50 * time.Millisecond}
	noisy := 0
	if b.quiet {
		serial.Before = func() error {
			found, err := measure.Quiet(ctx, 0.25, 80*time.Millisecond, 5*time.Second)
			if !found {
				noisy++
			}
			return err
		}
	}
	got, err := serial.Run(ctx, ops)
	if err != nil {
		return err
	}
	if b.quiet {
		b.step.Notes = append(b.step.Notes, fmt.Sprintf("Before each serial call the machine was to be less than a quarter busy for 80 ms; %d of %d calls found no such moment in 5 s.",
			noisy, (serial.Rounds+serial.Warmup)*len(ops)))
	}
	for i, c := range all {
		row := results.Row{Set: results.LaunchSerial, Name: c.name, Ours: c.ours, Base: i == 0}.Fill(got[i])
		row.Note = c.version
		if c.note != nil {
			row.Note = c.note()
		}
		b.add(row)
	}
	return nil
}

// launchRates keeps calls of one way in flight at a time, the ways in turn.
func (b *bench) launchRates(ctx context.Context, all []contender) error {
	for _, k := range b.inFlight {
		for _, c := range all {
			progress("launch: %s, %d in flight, %s", c.name, k, b.lasting)
			// What the cell before left to daemons must not count in this one.
			if _, err := measure.Quiet(ctx, 0.25, 200*time.Millisecond, 5*time.Second); err != nil {
				return err
			}
			baseline, err := measure.Baseline(ctx, 500*time.Millisecond)
			if err != nil {
				return err
			}
			got, err := measure.Load(ctx, k, b.lasting, baseline, c.once)
			if err != nil {
				return err
			}
			b.add(results.Row{Set: results.LaunchRates, Name: c.name, Ours: c.ours, Base: c.name == "Docker API", InFlight: k}.Fill(got))
		}
	}
	return nil
}
