//go:build cgo

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

// quiet is a machine whose GPUs report no events.
func quiet() *server.Server {
	s := dgxh100.New()
	stub(s)
	s.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{WaitFunc: func(ms uint32) (nvml.EventData, nvml.Return) {
			time.Sleep(time.Duration(ms) * time.Millisecond)
			return nvml.EventData{}, nvml.ERROR_TIMEOUT
		}}, nvml.SUCCESS
	}
	return s
}

func TestWatchReadsInTimeAndOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		asks, done := make(chan struct{}, 1), make(chan error)
		p := &prober{lib: quiet(), out: &lines{to: json.NewEncoder(w)}, every: time.Second}
		start := time.Now()
		go func() { done <- p.watch(ctx, asks) }()
		out := bufio.NewScanner(r)
		out.Buffer(nil, 1<<20)
		next := func() time.Duration {
			if !out.Scan() {
				t.Fatal(out.Err())
			}
			var report probe.Report
			if err := json.Unmarshal(out.Bytes(), &report); err != nil || len(report.Reading.Devices) != 8 {
				t.Fatalf("%v: %s", err, out.Bytes())
			}
			return report.Reading.At.Sub(start)
		}
		for i, want := range []time.Duration{0, time.Second, 2 * time.Second} {
			if at := next(); at != want {
				t.Errorf("reading %d is of %v, not %v", i, at, want)
			}
		}
		time.Sleep(300 * time.Millisecond)
		asks <- struct{}{}
		if at := next(); at != 2300*time.Millisecond {
			t.Errorf("the reading on request is of %v", at)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(2 * eventWait) // the last wait for events ends
	})
}

func TestWatchEndsWithTheDriver(t *testing.T) {
	s := quiet()
	s.InitFunc = func() nvml.Return { return nvml.ERROR_DRIVER_NOT_LOADED }
	var out strings.Builder
	p := &prober{lib: s, out: &lines{to: json.NewEncoder(&out)}, every: time.Hour}
	if err := p.watch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"status":"not_loaded"`) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("wrote %s", out.String())
	}
}

// TestWatchEndsForALostGPU leaves it to the next process to see it mended.
func TestWatchEndsForALostGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quiet()
		ctx, cancel := context.WithCancel(t.Context())
		p := &prober{lib: s, out: &lines{to: json.NewEncoder(io.Discard)}, every: time.Second}
		start := time.Now()
		lost, whole := lose(s, 4), s.Devices[4]
		s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
			if i == 4 && time.Since(start) <= 90*time.Second {
				return whole, nvml.SUCCESS
			}
			return lost(i)
		}
		if err := p.watch(ctx, nil); err != nil {
			t.Error(err)
		}
		if lived := time.Since(start); lived != 150*time.Second {
			t.Errorf("ended after %v", lived)
		}
		cancel()
		time.Sleep(2 * eventWait)
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no reader") }

func TestWatchEndsWithItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := &prober{lib: quiet(), out: &lines{to: json.NewEncoder(full{})}, every: time.Hour}
		if err := p.watch(ctx, nil); err == nil {
			t.Error("watched on without a reader")
		}
		cancel()
		time.Sleep(2 * eventWait)
	})
}

func TestListenCountsNoneTwice(t *testing.T) {
	asks := make(chan struct{}, 1)
	listen(strings.NewReader("now\nnow\nnow\n"), asks)
	if len(asks) != 1 {
		t.Errorf("%d requests wait", len(asks))
	}
}
