package results

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// column is one column of a table; one without a cell is left out.
type column struct {
	head string
	cell func(Step, Row) string
}

var columns = []column{
	{"", func(_ Step, r Row) string {
		if r.Ours {
			return "**" + escape(r.Name) + "**"
		}
		return escape(r.Name)
	}},
	{"in flight", func(_ Step, r Row) string { return count(r.InFlight) }},
	{"n", func(_ Step, r Row) string {
		if r.Latency == nil {
			return ""
		}
		return count(r.Latency.N)
	}},
	{"min ms", latency(func(r Row) float64 { return r.Latency.Min })},
	{"p50 ms", latency(func(r Row) float64 { return r.Latency.P50 })},
	{"p90 ms", latency(func(r Row) float64 { return r.Latency.P90 })},
	{"p99 ms", latency(func(r Row) float64 { return r.Latency.P99 })},
	{"per second", func(_ Step, r Row) string { return Short(r.Rate) }},
	{"CPU ms each", func(_ Step, r Row) string { return Short(r.CPU) }},
	{"value", func(_ Step, r Row) string {
		if r.Unit == "" {
			return ""
		}
		if r.Value == 0 {
			return "0 " + r.Unit
		}
		return Short(r.Value) + " " + r.Unit
	}},
	{"ratio", func(s Step, r Row) string {
		if r.Base {
			return "1"
		}
		if q := s.Ratio(r); q > 0 {
			return Short(q) + "x"
		}
		return ""
	}},
	{"failed", func(_ Step, r Row) string { return count(r.Failures) }},
	{"", func(_ Step, r Row) string {
		words := []string{}
		if r.Skipped != "" {
			words = append(words, "skipped: "+r.Skipped)
		}
		if r.Note != "" {
			words = append(words, r.Note)
		}
		if r.Error != "" {
			words = append(words, "first failure: "+r.Error)
		}
		return escape(clip(strings.Join(words, "; "), 200))
	}},
}

func latency(of func(Row) float64) func(Step, Row) string {
	return func(_ Step, r Row) string {
		if r.Latency == nil {
			return ""
		}
		return Short(of(r))
	}
}

// Markdown writes every step's tables.
func (r Report) Markdown(w io.Writer) error {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s, %d cores, %d GiB, Linux %s, cgroup %s; %s\n", m.Processor, m.Cores, (m.MemoryMiB+512)/1024, m.Kernel, m.Cgroup,
		r.Began.UTC().Format("2006-01-02"))
	if len(r.Versions) > 0 {
		var names []string
		for name, version := range r.Versions {
			names = append(names, name+" "+version)
		}
		slices.Sort(names)
		fmt.Fprintf(&b, "\n%s\n", strings.Join(names, "; "))
	}
	for _, s := range r.Steps {
		b.WriteString("\n")
		s.markdown(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Markdown writes the step's tables.
func (s Step) Markdown(w io.Writer) error {
	var b strings.Builder
	s.markdown(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (s Step) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "### %s\n", s.Title)
	for _, note := range s.Notes {
		fmt.Fprintf(b, "\n%s\n", note)
	}
	var sets []string
	for _, r := range s.Rows {
		if !slices.Contains(sets, r.Set) {
			sets = append(sets, r.Set)
		}
	}
	for _, set := range sets {
		var rows []Row
		for _, r := range s.Rows {
			if r.Set == set {
				rows = append(rows, r)
			}
		}
		if set != "" {
			fmt.Fprintf(b, "\n%s\n", set)
		}
		b.WriteString("\n")
		s.table(b, rows)
	}
	fmt.Fprintf(b, "\nLoad of the minute before: %.2f.\n", s.Load)
}

func (s Step) table(b *strings.Builder, rows []Row) {
	cells := make([][]string, len(columns))
	var shown []int
	for i, c := range columns {
		for _, r := range rows {
			cells[i] = append(cells[i], c.cell(s, r))
		}
		empty := func(s string) bool { return s == "" }
		if slices.ContainsFunc(cells[i], func(s string) bool { return !empty(s) }) {
			shown = append(shown, i)
		}
	}
	line := func(cell func(i int) string) {
		b.WriteString("|")
		for _, i := range shown {
			b.WriteString(" " + cell(i) + " |")
		}
		b.WriteString("\n")
	}
	line(func(i int) string { return columns[i].head })
	line(func(i int) string {
		if columns[i].head == "" {
			return "---"
		}
		return "---:"
	})
	for k := range rows {
		line(func(i int) string { return cells[i][k] })
	}
}

// Short writes a figure with three digits that matter; nothing for 0.
func Short(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1 || v <= -1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// escape keeps a text within its cell.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ").Replace(s)
}

// clip cuts a text at so many runes.
func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
