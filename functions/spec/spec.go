// Package spec reads the YAML form of functions.Spec, of which JSON
// is a part. It is strict, because a key that is misspelt and ignored is a limit
// that silently does not hold: an unknown key, a key written twice and a value
// of the wrong type are errors, and every error names the line and the key.
//
// Aliases and anchors are refused. A spec is too short to need them, and a few
// lines of them can expand to gigabytes.
package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"

	"github.com/spillway/spillway/functions"
)

// MaxSize is the largest spec that is read.
const MaxSize = 256 * functions.KiB

// Parse reads one spec, fills its defaults and validates it. The error is an
// ErrInvalid one with code bad_spec, whose Field is the key.
func Parse(text []byte) (functions.Spec, error) {
	var s functions.Spec
	if len(text) > int(MaxSize) {
		return s, functions.Invalid("bad_spec", "the spec is over %v", MaxSize)
	}
	root, err := document(text)
	if err != nil {
		return s, err
	}
	d := decoder{lines: map[string]int{}}
	if err := d.value(root, reflect.ValueOf(&s).Elem(), ""); err != nil {
		return functions.Spec{}, err
	}
	s = s.WithDefaults()
	if err := s.Validate(); err != nil {
		return functions.Spec{}, d.locate(err)
	}
	return s, nil
}

// document returns the root of the one document in text.
func document(text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(joinSurrogates(text)))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, functions.Invalid("bad_spec", "the spec is empty").WithHint("write at least a name and an image")
	case err != nil: // the parser's message begins with the line
		return nil, functions.Invalid("bad_spec", "%s", strings.TrimPrefix(err.Error(), "yaml: ")).WithHint("this is not YAML")
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, functions.Invalid("bad_spec", "line %d: a second document begins here, or the first does not end well", max(more.Line, 1)).
			WithHint("write one function per file")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, functions.Invalid("bad_spec", "the spec is empty").WithHint("write at least a name and an image")
	}
	return doc.Content[0], nil
}

var escape = regexp.MustCompile(`\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|.)`)

// joinSurrogates writes out characters that JSON escapes as two halves, the one
// thing in JSON that a YAML parser refuses.
func joinSurrogates(text []byte) []byte {
	if !bytes.Contains(bytes.ToLower(text), []byte(`\ud`)) || !json.Valid(text) {
		return text
	}
	return escape.ReplaceAllFunc(text, func(e []byte) []byte {
		var hi, lo rune
		if n, _ := fmt.Sscanf(string(e), `\u%04x\u%04x`, &hi, &lo); n != 2 {
			return e
		}
		return []byte(string(utf16.DecodeRune(hi, lo)))
	})
}
