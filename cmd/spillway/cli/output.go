package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
)

var formats = []string{"table", "wide", "json", "jsonl", "yaml", "name"}

func checkFormat(format string) error {
	if slices.Contains(formats, format) {
		return nil
	}
	return usage("-o %s is not an output form; use %s", format, strings.Join(formats, ", "))
}

// quiet reports whether nothing may decorate the answer.
func quiet(format string) bool { return format != "table" && format != "wide" }

// list is a printable answer: the raw JSON for programs, rows for people.
type list struct {
	raw     json.RawMessage
	items   []json.RawMessage // one JSON object each, for jsonl; nil = raw alone
	names   []string          // for -o name
	headers []string
	rows    [][]string
	wide    int // columns from here on are shown by -o wide only; 0 = all always
}

func (l list) print(app App, format string) error {
	switch format {
	case "json":
		return printJSON(app.Out, l.raw)
	case "jsonl":
		return l.printLines(app.Out)
	case "yaml":
		return printYAML(app.Out, l.raw)
	case "name":
		for _, n := range l.names {
			if _, err := fmt.Fprintln(app.Out, n); err != nil {
				return err
			}
		}
		return nil
	}
	if len(l.rows) == 0 {
		_, err := fmt.Fprintln(app.Err, "nothing to show")
		return err
	}
	headers, rows := l.headers, l.rows
	if l.wide > 0 && format != "wide" {
		headers, rows = headers[:l.wide], nil
		for _, r := range l.rows {
			rows = append(rows, r[:l.wide])
		}
	}
	return printTable(app.Out, headers, rows)
}

func printJSON(w io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return fmt.Errorf("indent the gateway's answer: %w", err)
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

func (l list) printLines(w io.Writer) error {
	items := l.items
	if items == nil {
		items = []json.RawMessage{l.raw}
	}
	for _, it := range items {
		var b bytes.Buffer
		if err := json.Compact(&b, it); err != nil {
			return fmt.Errorf("compact the gateway's answer: %w", err)
		}
		b.WriteByte('\n')
		if _, err := b.WriteTo(w); err != nil {
			return err
		}
	}
	return nil
}

func printTable(w io.Writer, headers []string, rows [][]string) error {
	t := table.New().Headers(headers...).Rows(rows...).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).BorderColumn(false).BorderHeader(false).
		Wrap(false).
		StyleFunc(func(_, _ int) lipgloss.Style { return lipgloss.NewStyle().PaddingRight(2) })
	var b strings.Builder
	for line := range strings.Lines(t.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// terminal reports whether w is a terminal, the only place for progress bars.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
