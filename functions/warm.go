package functions

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// Warm is how many containers wait started for a function's next tasks, on each
// node: a number, or WarmAuto. As text it is the number or "auto". A task that
// finds one runs at once; the container serves it alone, as any does.
//
// A node learns of a function with its first task there. A number it keeps from
// then on, also over a restart of its agent, until the function is deleted or
// has a newer version; what WarmAuto made it keep, until no task has come for ten
// minutes. All of a node's share its --warm-memory, 16MiB each.
//
// Containers wait for the CPU alone: one that held a GPU would keep it from every
// other task. A task with a file of a shared folder starts a container of its own.
type Warm int

// mostWarm bounds a spec's number; a node's memory does before.
const mostWarm = 1000

// WarmAuto lets each node choose the number from the rate at which tasks come.
const WarmAuto Warm = -1

// Reuse is how many invocations one container of an http or lambda function
// serves: a number, or ReuseForever. As text it is the number or "forever".
type Reuse int

// ReuseForever keeps a container until it fails or its room is wanted.
const ReuseForever Reuse = -1

// MarshalText implements encoding.TextMarshaler.
func (w Warm) MarshalText() ([]byte, error) { return countText(int(w), "auto"), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *Warm) UnmarshalText(text []byte) error { return readCount((*int)(w), text, "auto") }

// UnmarshalJSON takes the number without quotes too.
func (w *Warm) UnmarshalJSON(data []byte) error { return w.UnmarshalText(unquoted(data)) }

// MarshalText implements encoding.TextMarshaler.
func (r Reuse) MarshalText() ([]byte, error) { return countText(int(r), "forever"), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Reuse) UnmarshalText(text []byte) error { return readCount((*int)(r), text, "forever") }

// UnmarshalJSON takes the number without quotes too.
func (r *Reuse) UnmarshalJSON(data []byte) error { return r.UnmarshalText(unquoted(data)) }

func countText(n int, word string) []byte {
	if n < 0 {
		return []byte(word)
	}
	return strconv.AppendInt(nil, int64(n), 10)
}

func readCount(to *int, text []byte, word string) error {
	s := strings.TrimSpace(string(text))
	if s == word {
		*to = -1
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n > math.MaxInt32 {
		return Invalid("bad_count", "%q is neither a number nor %s", trim(s), word)
	}
	*to = int(n)
	return nil
}

// unquoted is the text of a JSON string, and anything else as it stands.
func unquoted(data []byte) []byte {
	var s string
	if json.Unmarshal(data, &s) != nil {
		return data
	}
	return []byte(s)
}
