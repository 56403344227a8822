package lambda

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// decode reads a body whose members are those of to. Members that Lambda has and
// we do not are in without, with what to say of them; they may hold nothing, or
// Lambda's default.
func (q *request) decode(to any, without map[string]absent) *apiError {
	body := q.body
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &members); err != nil {
		return unreadable(err)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		w, ok := without[name]
		if !ok {
			continue
		}
		if !w.takes(members[name]) {
			return problem(codeInvalidParameter, "%s: %s", name, w.why)
		}
		delete(members, name)
	}
	rest, err := json.Marshal(members)
	if err != nil {
		return unreadable(err)
	}
	dec := json.NewDecoder(bytes.NewReader(rest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil && !errors.Is(err, io.EOF) {
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return problem(codeInvalidParameter, "%.140s is not a member of this call", strings.Trim(field, `"`))
		}
		return unreadable(err)
	}
	return nil
}

func unreadable(err error) *apiError {
	var of *json.UnmarshalTypeError
	if errors.As(err, &of) && of.Field != "" {
		return problem(codeInvalidContent, "Could not parse request body into json: %s cannot be a %s", of.Field, of.Value)
	}
	return problem(codeInvalidContent, "Could not parse request body into json: %.300v", err)
}

// absent is a member of Lambda's that has no counterpart here.
type absent struct {
	why    string
	unless string // JSON of Lambda's default, which may be said; may be empty
}

// takes reports whether a value says no more than the default does.
func (w absent) takes(value json.RawMessage) bool {
	var flat bytes.Buffer
	if json.Compact(&flat, value) != nil {
		return false
	}
	switch flat.String() {
	case "null", "{}", "[]", `""`:
		return true
	case w.unless:
		return w.unless != ""
	}
	return false
}

// outside is a value that breaks a rule of Lambda's model.
func outside(value any, at, must string) *apiError {
	return problem(codeValidation, "1 validation error detected: Value '%.140v' at '%s' failed to satisfy constraint: %s", value, at, must)
}

// within checks a number that may be absent.
func within(n *int, at string, least, most int) *apiError {
	if n == nil || *n >= least && *n <= most {
		return nil
	}
	return outside(*n, at, "Member must have value from "+strconv.Itoa(least)+" to "+strconv.Itoa(most))
}

// firstOf returns the first fault of several.
func firstOf(faults ...*apiError) *apiError {
	for _, e := range faults {
		if e != nil {
			return e
		}
	}
	return nil
}

// maxPage is the most entries of one answer, as of Lambda's.
const maxPage = 50

// page cuts the part of a sorted list that a call asks for. key is in the list's
// order; the marker of the next page is the last key of this one.
func page[T any](q *request, all []T, key func(T) string, most int) (part []T, next string, e *apiError) {
	query := q.URL.Query()
	size := maxPage
	if text := query.Get("MaxItems"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, "", outside(text, "maxItems", "Member must be a number")
		}
		if e := within(&n, "maxItems", 1, most); e != nil {
			return nil, "", e
		}
		size = min(n, maxPage)
	}
	after, err := base64.RawURLEncoding.DecodeString(query.Get("Marker"))
	if err != nil {
		return nil, "", problem(codeInvalidParameter, "%.80q is not a marker; use the NextMarker of the page before", query.Get("Marker"))
	}
	from := 0
	if len(after) > 0 {
		var same bool
		from, same = slices.BinarySearchFunc(all, string(after), func(v T, k string) int { return cmp.Compare(key(v), k) })
		if same {
			from++
		}
	}
	part = all[from:]
	if len(part) > size {
		part = part[:size]
		next = base64.RawURLEncoding.EncodeToString([]byte(key(part[size-1])))
	}
	return part, next, nil
}
