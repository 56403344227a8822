package probe

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// maxLine is the longest line of a probe that is read: eight GPUs in MIG
// instances with hundreds of processes are a tenth of it.
const maxLine = 1 << 20

var errTooLong = fmt.Errorf("longer than %d bytes", maxLine)

// line is what a line of the probe said, or why it cannot be understood.
type line struct {
	Report
	err error
}

// readLines passes on what r says until it ends, or until send returns false.
// Empty lines are skipped.
func readLines(r io.Reader, send func(line) bool) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		text, err := in.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		text = bytes.TrimSpace(text)
		if tooLong {
			if !send(line{err: errTooLong}) {
				return
			}
		} else if len(text) > 0 {
			report, fault := parseReport(text)
			if !send(line{report, fault}) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// parseReport reads one line. What it lets through is complete: a reading of a
// known status whose devices all have UUIDs, each another, or an event.
func parseReport(text []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return Report{}, fmt.Errorf("%q: %w", text[:min(len(text), 80)], err)
	}
	switch {
	case (r.Reading == nil) == (r.Event == nil):
		return Report{}, errors.New("neither a reading nor an event, or both")
	case r.Event != nil:
		return r, nil
	case !slices.Contains([]Status{OK, NoDriver, NotLoaded, Mismatch, Broken}, r.Reading.Status):
		return Report{}, fmt.Errorf("status %.20q", r.Reading.Status)
	case r.Reading.At.IsZero():
		return Report{}, errors.New("a reading of no time")
	}
	seen := map[string]bool{}
	for _, d := range r.Reading.Devices {
		if d.UUID == "" || seen[d.UUID] {
			return Report{}, fmt.Errorf("GPU %d: UUID %.80q is empty or there twice", d.Index, d.UUID)
		}
		seen[d.UUID] = true
	}
	return r, nil
}
