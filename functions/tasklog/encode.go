package tasklog

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spillway/spillway/functions"
)

// A message is one event per line, as JSON. Compact JSON holds no line break,
// so lines can be joined and split without looking into them.

func encode(e functions.Event) ([]byte, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return nil, functions.Invalid("bad_event", "the event cannot be written as JSON").WithCause(err)
	}
	if len(line) > maxEventBytes {
		return nil, functions.NewError(functions.ErrTooLarge, "event_too_large",
			"the event takes %d bytes, over the log's limit of %d", len(line), maxEventBytes).
			WithHint("put large data into the object store")
	}
	return line, nil
}

// decode appends the records of a message to records. A line that is not an
// event becomes an empty one: void for every reader alike, and its sequence is
// not missing. Lines after the maxBatch-th are not ours and are left out.
func decode(records []functions.Record, seq uint64, data []byte) ([]functions.Record, error) {
	var bad error
	for i := 0; i < maxBatch && (i == 0 || len(data) > 0); i++ {
		var line []byte
		line, data, _ = bytes.Cut(data, newline)
		r := functions.Record{Seq: seq, Index: i}
		if err := json.Unmarshal(line, &r.Event); err != nil {
			bad = fmt.Errorf("read event %d of message %d: %w", i, seq, err)
			r.Event = functions.Event{}
		}
		records = append(records, r)
	}
	return records, bad
}

var newline = []byte{'\n'}
