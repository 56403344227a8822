package measure

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// tick is what the kernel counts in: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// CPU is the processor time of the whole machine since its start.
type CPU struct {
	Busy  time.Duration // of all cores: user, nice, system and interrupts
	Total time.Duration // of all cores: Busy, idle and what the host took
}

// ParseCPU reads the text of /proc/stat.
func ParseCPU(text string) (CPU, error) {
	line, _, _ := strings.Cut(text, "\n")
	var user, nice, system, idle, iowait, irq, softirq, steal int64
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return CPU{}, fmt.Errorf("read processor times from %q: %w", line, err)
	}
	busy := user + nice + system + irq + softirq
	return CPU{Busy: time.Duration(busy) * tick, Total: time.Duration(busy+idle+iowait+steal) * tick}, nil
}

// ReadCPU reads the machine's processor times as they are now.
func ReadCPU() (CPU, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return CPU{}, fmt.Errorf("read processor times: %w", err)
	}
	return ParseCPU(string(text))
}

// Share is the part of the machine that was busy from a to b, 0 to 1.
func Share(a, b CPU) float64 {
	if b.Total <= a.Total {
		return 0
	}
	return float64(b.Busy-a.Busy) / float64(b.Total-a.Total)
}

// busiest is the share of a machine that others may use while processor time is
// measured: beyond it, what they use varies more than what is looked for.
const busiest = 0.3

// PerTask is the processor time of one of n tasks, which ran from a to b on a
// machine of which the share baseline is busy without them. It is 0 when it
// cannot be told: on a machine that is too busy, or below its noise.
func PerTask(a, b CPU, baseline float64, n int) time.Duration {
	if n <= 0 || baseline > busiest {
		return 0
	}
	over := float64(b.Busy-a.Busy) - baseline*float64(b.Total-a.Total)
	return time.Duration(max(over, 0) / float64(n))
}

// Baseline is the busy share of the machine while this process only waits.
func Baseline(ctx context.Context, window time.Duration) (float64, error) {
	a, err := ReadCPU()
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, window); err != nil {
		return 0, err
	}
	b, err := ReadCPU()
	return Share(a, b), err
}

// Quiet waits until less than the share limit of the machine is busy for one
// window, at most patience long. It reports whether it found such a window.
func Quiet(ctx context.Context, limit float64, window, patience time.Duration) (bool, error) {
	for began := time.Now(); time.Since(began) < patience; {
		busy, err := Baseline(ctx, window)
		if err != nil {
			return false, err
		}
		if busy < limit {
			return true, nil
		}
	}
	return false, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
