package tasklog

import (
	"encoding/json"
	"errors"

	"github.com/spillway/spillway/functions"
)

// reply is the answer to a request. An error crosses with its class, so that
// errors.Is holds on the other side.
type reply struct {
	Error *wireError      `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

type wireError struct {
	Class   string `json:"class,omitempty"` // empty = internal
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Field   string `json:"field,omitempty"`
}

// classes are the names of the error classes on the wire. They must not change.
var classes = []struct {
	name  string
	class error
}{
	{"invalid", functions.ErrInvalid},
	{"not_found", functions.ErrNotFound},
	{"conflict", functions.ErrConflict},
	{"throttled", functions.ErrThrottled},
	{"timeout", functions.ErrTimeout},
	{"unavailable", functions.ErrUnavailable},
	{"too_large", functions.ErrTooLarge},
	{"forbidden", functions.ErrForbidden},
	{"stale", functions.ErrStale},
}

func toWire(err error) *wireError {
	w := &wireError{Message: err.Error()}
	if e, ok := errors.AsType[*functions.Error](err); ok {
		w.Code, w.Message, w.Hint, w.Field = e.Code, e.Message, e.Hint, e.Field
	}
	for _, c := range classes {
		if errors.Is(err, c.class) {
			w.Class = c.name
			break
		}
	}
	return w
}

func (w *wireError) err() error {
	for _, c := range classes {
		if c.name == w.Class {
			return &functions.Error{Class: c.class, Code: w.Code, Message: w.Message, Hint: w.Hint, Field: w.Field}
		}
	}
	return errors.New(w.Message)
}

// encodeReply writes the answer of a handler.
func encodeReply(value any, err error) []byte {
	var r reply
	if err == nil && value != nil {
		r.Value, err = json.Marshal(value)
	}
	if err != nil {
		r = reply{Error: toWire(err)}
	}
	data, err := json.Marshal(r)
	if err != nil { // Value is JSON already, and the rest is text
		return []byte(`{"error":{"message":"the answer cannot be written"}}`)
	}
	return data
}

// decodeReply reads an answer into value, which may be nil.
func decodeReply(data []byte, value any) error {
	var r reply
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	if r.Error != nil {
		return r.Error.err()
	}
	if value == nil || len(r.Value) == 0 {
		return nil
	}
	return json.Unmarshal(r.Value, value)
}
