package results

import (
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/bench/measure"
)

func sample() Report {
	lat := func(v ...float64) *measure.Summary { return measure.Summarize(v) }
	return Report{
		Began: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), Machine: Machine{Processor: "CPU <x>", Cores: 2, MemoryMiB: 24000, Kernel: "6.1", Cgroup: "v2"},
		Versions: map[string]string{"runc": "1.1.5"},
		Steps: []Step{
			{Name: "launch", Title: "One container", Load: 1.5, Notes: []string{"A note."}, Rows: []Row{
				{Set: LaunchSerial, Name: "docker run (CLI)", Base: true, Latency: lat(300, 290, 310)},
				{Set: LaunchSerial, Name: "ours", Ours: true, Latency: lat(3, 2, 4), Failures: 1, Error: "a|b\nc"},
				{Set: LaunchSerial, Name: "podman run", Skipped: "podman is not installed: skipped"},
				{Set: LaunchRates, Name: "Docker API", Base: true, InFlight: 1, Rate: 4, CPU: 240, Latency: lat(250)},
				{Set: LaunchRates, Name: "Docker API", Base: true, InFlight: 4, Rate: 8, CPU: 230, Latency: lat(500)},
				{Set: LaunchRates, Name: "ours", Ours: true, InFlight: 4, Rate: 400, CPU: 5, Latency: lat(10)},
			}},
			{Name: "queue", Title: "Queues", Rows: []Row{{Set: QueueDrain, Name: "Celery", Base: true, Rate: 700}, {Set: QueueDrain, Name: "ours", Ours: true, Rate: 7000}}},
			{Name: "trace", Title: "Trace", Rows: []Row{{Set: TraceDelay, Name: "simulated", Ours: true, Latency: lat(1, 2, 3, 50)}}},
			{Name: "start", Title: "start", Rows: []Row{{Name: "ready", Value: 132, Unit: "ms"}}},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	want := sample()
	if err := want.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back %+v\nwant %+v", got, want)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file is no error")
	}
}

func TestRatio(t *testing.T) {
	s := sample().Steps[0]
	for i, want := range []float64{1, 100, 0, 1, 1, 50} {
		if got := s.Ratio(s.Rows[i]); got != want {
			t.Errorf("%s: %v, want %v", s.Rows[i].Name, got, want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	if err := sample().Markdown(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{
		"### One container\n\nA note.\n", "|  | n | min ms | p50 ms | p90 ms | p99 ms | ratio | failed |  |\n",
		"| **ours** | 3 | 2.00 | 3.00 | 4.00 | 4.00 | 100x | 1 | first failure: a\\|b c |\n",
		"| podman run |", "skipped: podman is not installed", "| docker run (CLI) | 3 | 290 | 300 | 310 | 310 | 1 |",
		"| **ours** | 4 | 1 | 10.0 | 10.0 | 10.0 | 10.0 | 400 | 5.00 | 50.0x |\n", "| ready | 132 ms |", "runc 1.1.5", "2 cores, 23 GiB",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// Every row of a table has as many cells as its head.
	cells := 0
	for line := range strings.Lines(text) {
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if n > 0 && cells > 0 && n != cells {
			t.Errorf("%d bars, the row before has %d: %s", n, cells, line)
		}
		cells = n
	}
}

func TestPlots(t *testing.T) {
	plots := sample().Plots()
	for name, words := range map[string][]string{
		"launch-latency.svg": {"docker run (CLI)", "300 ms", "3.00 ms"}, "launch-rate.svg": {"Docker API", "ours", "in flight"},
		"queue.svg": {"Celery", "7000/s"}, "trace.svg": {"simulated (4)"},
	} {
		svg := string(plots[name])
		for _, w := range words {
			if !strings.Contains(svg, w) {
				t.Errorf("%s lacks %q", name, w)
			}
		}
		dec := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	if len(plots) != 4 {
		t.Errorf("%d plots, want 4", len(plots))
	}
	if n := len((Report{}).Plots()); n != 0 {
		t.Errorf("%d plots of nothing", n)
	}
}

func TestMerge(t *testing.T) {
	old := sample()
	newer := Report{Began: old.Began.Add(time.Hour), Versions: map[string]string{"crun": "1.8"}, Steps: []Step{
		{Name: "queue", Title: "again"}, {Name: "http", Title: "new"},
	}}
	got := old.Merge(newer)
	var titles []string
	for _, s := range got.Steps {
		titles = append(titles, s.Title)
	}
	if strings.Join(titles, ",") != "One container,again,Trace,start,new" {
		t.Errorf("steps %v", titles)
	}
	if len(got.Versions) != 2 || got.Began != newer.Began || old.Steps[1].Title != "Queues" || len(old.Versions) != 1 {
		t.Errorf("%+v; the old one: %+v", got, old)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "", 0.031: "0.031", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 20000: "20000"} {
		if got := Short(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}
