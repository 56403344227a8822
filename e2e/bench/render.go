package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spillway/spillway/e2e/bench/results"
)

// keep writes what was measured up to now, over what the file has of it.
func keep(file string, report results.Report) error {
	if file == "" {
		return nil
	}
	before, err := results.Read(file)
	switch {
	case err == nil:
		report = before.Merge(report)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	return report.Write(file)
}

// render writes a results file as tables and pictures.
func render(file string) error {
	report, err := results.Read(file)
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(file), "plots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, picture := range report.Plots() {
		if err := os.WriteFile(filepath.Join(dir, name), picture, 0o644); err != nil {
			return err
		}
	}
	var tables strings.Builder
	if err := report.Markdown(&tables); err != nil {
		return err
	}
	readme := filepath.Join(filepath.Dir(file), "README.md")
	text, err := os.ReadFile(readme)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Print(tables.String())
		return nil
	}
	if err != nil {
		return err
	}
	placed, err := place(string(text), tables.String())
	if err != nil {
		return fmt.Errorf("%s: %w", readme, err)
	}
	return os.WriteFile(readme, []byte(placed), 0o644)
}

// The lines of a README between which the tables are.
const (
	tablesBegin = "<!-- results -->\n"
	tablesEnd   = "<!-- end of results -->\n"
)

// place puts the tables between the lines of a README that are for them.
func place(readme, tables string) (string, error) {
	before, rest, begun := strings.Cut(readme, tablesBegin)
	_, after, ended := strings.Cut(rest, tablesEnd)
	if !begun || !ended {
		return "", fmt.Errorf("it lacks the lines %q and %q, between which the tables go", strings.TrimSpace(tablesBegin), strings.TrimSpace(tablesEnd))
	}
	return before + tablesBegin + tables + tablesEnd + after, nil
}
