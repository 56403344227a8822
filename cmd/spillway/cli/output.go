package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"go.yaml.in/yaml/v3"
)

func checkFormat(format string) error {
	switch format {
	case "table", "wide", "json", "jsonl", "yaml", "name":
		return nil
	}
	return fmt.Errorf("%w: -o %s; use table, wide, json, jsonl, yaml or name", errUsage, format)
}

// list is a printable answer: the raw JSON for programs, rows for people.
type list struct {
	raw     json.RawMessage
	items   []json.RawMessage // one JSON object each, for jsonl; nil = raw alone
	names   []string          // for -o name
	headers []string
	rows    [][]string
	wide    int // columns from here on are shown by -o wide only; 0 = all always
}

func (l list) print(w io.Writer, format string) error {
	switch format {
	case "json":
		var b bytes.Buffer
		if err := json.Indent(&b, l.raw, "", "  "); err != nil {
			return fmt.Errorf("indent the gateway's answer: %w", err)
		}
		b.WriteByte('\n')
		_, err := b.WriteTo(w)
		return err
	case "jsonl":
		items := l.items
		if items == nil {
			items = []json.RawMessage{l.raw}
		}
		for _, it := range items {
			var b bytes.Buffer
			if err := json.Compact(&b, it); err != nil {
				return fmt.Errorf("compact the gateway's answer: %w", err)
			}
			fmt.Fprintln(w, b.String())
		}
		return nil
	case "yaml":
		var v any
		if err := decode(l.raw, &v); err != nil {
			return err
		}
		return yaml.NewEncoder(w).Encode(v)
	case "name":
		for _, n := range l.names {
			fmt.Fprintln(w, n)
		}
		return nil
	}
	headers, rows := l.headers, l.rows
	if l.wide > 0 && format != "wide" {
		headers = headers[:l.wide]
		cut := make([][]string, len(rows))
		for i, r := range rows {
			cut[i] = r[:l.wide]
		}
		rows = cut
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "nothing to show")
		return nil
	}
	t := table.New().Headers(headers...).Rows(rows...).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).BorderColumn(false).BorderHeader(false).
		Wrap(false).
		StyleFunc(func(_, _ int) lipgloss.Style { return lipgloss.NewStyle().PaddingRight(2) })
	_, err := lipgloss.Fprintln(w, t.String())
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

// quiet reports whether nothing may decorate the answer.
func quiet(format string) bool { return format != "table" && format != "wide" }
