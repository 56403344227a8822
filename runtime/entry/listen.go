package entry

import (
	"errors"
	"io"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// listen reads what the entry program sends until it has gone.
func (s *Session) listen() {
	defer close(s.gone)
	s.report, s.err = s.transcribe()
	close(s.settled)
	if s.err != nil {
		s.conn.Close() // whatever it still sends is not read
		return
	}
	// The report was the last frame; what is left is the end.
	if n, _ := s.conn.Read(make([]byte, 1)); n > 0 {
		s.conn.Close()
	}
}

// transcribe copies the output up to the report.
func (s *Session) transcribe() (wire.Report, error) {
	var (
		to    assignment
		buf   []byte
		given bool
	)
	for {
		kind, payload, err := wire.ReadFrame(s.conn, buf)
		if !given {
			select {
			case to = <-s.work:
				given = true
			default:
			}
		}
		switch {
		case errors.Is(err, io.EOF) && to.exec:
			return wire.Report{}, nil // the command took its place
		case errors.Is(err, wire.ErrFrame) || err == nil && !given:
			return wire.Report{}, unexpected()
		case err != nil:
			return wire.Report{}, gone(err)
		}
		buf = payload[:0]
		switch kind {
		case wire.KindStdout:
			if _, err := to.stdout.Write(payload); err != nil {
				to.stdout = io.Discard
			}
		case wire.KindStderr:
			if _, err := to.stderr.Write(payload); err != nil {
				to.stderr = io.Discard
			}
		case wire.KindMark:
			s.marks.passed(payload)
		case wire.KindReport:
			report, err := wire.ParseReport(payload)
			if err != nil {
				return wire.Report{}, unexpected()
			}
			return report, nil
		default:
			return wire.Report{}, unexpected()
		}
	}
}

// unexpected is the error for frames that no entry program sends.
func unexpected() error {
	return functions.Unavailable("entry_garbled", "the entry program of the container sends what nobody can read").
		WithHint("remove the container")
}
