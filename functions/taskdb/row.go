package taskdb

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spillway/spillway/functions"
)

// maxEvents is how many places a log message has for new tasks; tasklog writes
// at most 256 events. What stands further back in a garbled message is void: an
// error would stop every server at that message for ever.
const maxEvents = 1024

// place numbers an event by its place in the log: ascending, and the same on
// every server.
func place(r functions.Record) int64 { return int64(r.Seq)*maxEvents + int64(r.Index) }

// columns are the parts of a task that change and can be selected by.
type columns struct {
	state    int
	node     functions.NodeID
	device   functions.Device
	fallback functions.Class
	queued   int64
}

func columnsOf(t *functions.Task) columns {
	c := columns{state: slices.Index(stateCodes, t.State), device: t.DeviceUsed(), fallback: t.Fallback, queued: t.QueuedAt.UnixMicro()}
	if a := t.Last(); a != nil {
		c.node = a.Node
	}
	return c
}

// null stores an empty string as NULL, which the partial indexes leave out.
func null[S ~string](s S) any {
	if s == "" {
		return nil
	}
	return string(s)
}

// idBytes returns the 16 bytes of a task id, or false when it is none.
func idBytes(id functions.TaskID) ([]byte, bool) {
	if id.Validate() != nil {
		return nil, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(string(id), "-", ""))
	return b, err == nil
}

func idText(b []byte) functions.TaskID {
	h := hex.EncodeToString(b)
	if len(h) != 32 {
		return functions.TaskID(h)
	}
	return functions.TaskID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

// encode writes the task as JSON without HTML escapes, so that an event comes
// back to its function in the bytes it was sent in.
func encode(t *functions.Task) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(t); err != nil {
		return nil, fmt.Errorf("encode task %s: %w", t.ID, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func decode(doc []byte) (t functions.Task, err error) {
	if err := json.Unmarshal(doc, &t); err != nil {
		return t, fmt.Errorf("decode task: %w", err)
	}
	return t, nil
}
