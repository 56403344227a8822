package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spillway/spillway/functions"
)

// newLogger writes JSON lines, or text where a person looks on.
func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, functions.Invalid("bad_config", "log-level: %q is not debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	if f, ok := w.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			return slog.New(slog.NewTextHandler(w, opts)), nil
		}
	}
	return slog.New(slog.NewJSONHandler(w, opts)), nil
}

// readyLine tells a person where everything is.
func readyLine(w io.Writer, u urls) {
	fmt.Fprintf(w, "spillway is ready\n  gateway  %s\n  page     %s/upload\n  store    %s\n", u.Gateway, u.Gateway, u.Store)
	if u.APIKey != "" {
		fmt.Fprintf(w, "  API key  in %s\n", u.APIKey)
	}
}
