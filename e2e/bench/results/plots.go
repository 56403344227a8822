package results

import (
	"fmt"
	"slices"

	"github.com/spillway/spillway/e2e/bench/chart"
	"github.com/spillway/spillway/e2e/bench/measure"
)

// The comparisons that have a picture.
const (
	LaunchSerial = "One at a time; ratio of medians to `docker run`"
	LaunchRates  = "Sustained rate; ratio to the Docker API at the same number in flight"
	QueueDrain   = "Enqueued and done, all tasks; ratio of rates to Celery with every write synced"
	TraceDelay   = "Accepted to started"
)

// Plots draws what the report has figures for, by file name.
func (r Report) Plots() map[string][]byte {
	plots := map[string][]byte{}
	for _, s := range r.Steps {
		switch s.Name {
		case "launch":
			if rows := s.set(LaunchSerial, hasLatency); len(rows) > 0 {
				plots["launch-latency.svg"] = ladder("One container that does nothing: request to result", rows).SVG()
			}
			if rows := s.set(LaunchRates, hasRate); len(rows) > 0 {
				plots["launch-rate.svg"] = rates(rows).SVG()
			}
		case "queue":
			if rows := s.set(QueueDrain, hasRate); len(rows) > 0 {
				plots["queue.svg"] = drained(rows).SVG()
			}
		case "trace":
			if rows := s.set(TraceDelay, hasLatency); len(rows) > 0 {
				plots["trace.svg"] = distribution("Replayed trace: accepted to started", rows).SVG()
			}
		}
	}
	return plots
}

func hasLatency(r Row) bool { return r.Latency != nil }
func hasRate(r Row) bool    { return r.Rate > 0 }

func (s Step) set(name string, has func(Row) bool) []Row {
	var rows []Row
	for _, r := range s.Rows {
		if r.Set == name && has(r) {
			rows = append(rows, r)
		}
	}
	return rows
}

// ladder is one bar for each median, the slowest first.
func ladder(title string, rows []Row) chart.Bars {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return -compare(a.Latency.P50, b.Latency.P50) })
	c := chart.Bars{Title: title, Unit: "milliseconds, logarithmic; bar: median, stroke: 99th percentile", Log: true}
	for _, r := range rows {
		c.Bars = append(c.Bars, chart.Bar{Label: r.Name, Text: Short(r.Latency.P50) + " ms", Value: r.Latency.P50, Tail: r.Latency.P99, Ours: r.Ours})
	}
	return c
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// rates is one line for each way, over the number in flight.
func rates(rows []Row) chart.Lines {
	c := chart.Lines{Title: "Containers per second, sustained", XUnit: "in flight", YUnit: "per second", LogX: true, LogY: true}
	for _, r := range rows {
		x := float64(r.InFlight)
		if !slices.Contains(c.Ticks, x) {
			c.Ticks = append(c.Ticks, x)
		}
		i := slices.IndexFunc(c.Series, func(s chart.Series) bool { return s.Name == r.Name })
		if i < 0 {
			i = len(c.Series)
			c.Series = append(c.Series, chart.Series{Name: r.Name, Ours: r.Ours})
		}
		c.Series[i].Points = append(c.Series[i].Points, chart.Point{X: x, Y: r.Rate})
	}
	slices.Sort(c.Ticks)
	return c
}

// drained is one bar for each queue.
func drained(rows []Row) chart.Bars {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return compare(a.Rate, b.Rate) })
	c := chart.Bars{Title: "Tasks that do nothing, enqueued and done", Unit: "per second, logarithmic", Log: true}
	for _, r := range rows {
		c.Bars = append(c.Bars, chart.Bar{Label: r.Name, Text: Short(r.Rate) + "/s", Value: r.Rate, Ours: r.Ours})
	}
	return c
}

// distribution is one line for each row: the share of its samples up to a value.
func distribution(title string, rows []Row) chart.Lines {
	c := chart.Lines{Title: title, XUnit: "milliseconds, logarithmic", YUnit: "% of the invocations", LogX: true, WithoutMarkers: true}
	for _, r := range rows {
		s := chart.Series{Name: fmt.Sprintf("%s (%d)", r.Name, r.Latency.N), Ours: r.Ours}
		for i, v := range thin(r.Latency) {
			s.Points = append(s.Points, chart.Point{X: max(v, 0.01), Y: float64(i)})
		}
		c.Series = append(c.Series, s)
	}
	return c
}

// thin returns the values at each whole percent, 0 to 100.
func thin(s *measure.Summary) []float64 {
	v := make([]float64, 101)
	for i := range v {
		v[i] = measure.Quantile(s.Sorted, float64(i)/100)
	}
	return v
}
