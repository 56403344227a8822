package spec

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/spillway/spillway/functions"
)

// decoder fills a Spec from YAML nodes. The nodes know their lines, which the
// library's own decoder tells only inside texts.
type decoder struct {
	lines map[string]int // of each key that was read, by its path
}

func bad(line int, field, format string, args ...any) *functions.Error {
	what := fmt.Sprintf(format, args...)
	if field != "" {
		what = field + ": " + what
	}
	return functions.Invalid("bad_spec", "line %d: %s", line, what).WithField(field)
}

// locate adds the line to an error of Validate: that of the field, or of the
// nearest thing around it that is written.
func (d *decoder) locate(err error) error {
	var e *functions.Error
	if !errors.As(err, &e) {
		return err
	}
	for field := e.Field; field != ""; field = field[:max(0, strings.LastIndexAny(field, ".["))] {
		if line, ok := d.lines[field]; ok {
			at := *e
			at.Message = fmt.Sprintf("line %d: %s", line, e.Message)
			return &at
		}
	}
	return err
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, field string) error {
	if field != "" && d.lines[field] == 0 {
		d.lines[field] = n.Line
	}
	switch tag := n.ShortTag(); {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return bad(n.Line, field, "aliases and anchors are not allowed")
	case tag == "!!null":
		if field == "" {
			return bad(n.Line, field, "the spec is empty")
		}
		return nil // as if the key were not there
	case tag == "!!binary" || !strings.HasPrefix(tag, "!!"):
		return bad(n.Line, field, "the tag %.40s is not allowed", tag)
	}
	if v.Type() == reflect.TypeFor[functions.JSON]() {
		return d.json(n, v, field)
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return d.text(n, u, field)
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.object(n, v, field)
	case reflect.Map:
		return d.table(n, v, field)
	case reflect.Slice:
		return d.list(n, v, field)
	}
	return d.scalar(n, v, field)
}

func (d *decoder) text(n *yaml.Node, u encoding.TextUnmarshaler, field string) error {
	if n.Kind != yaml.ScalarNode {
		return bad(n.Line, field, "%s is not a single value", kind(n))
	}
	err := u.UnmarshalText([]byte(n.Value))
	if err == nil {
		return nil
	}
	e := bad(n.Line, field, "%v", err)
	var why *functions.Error
	if errors.As(err, &why) {
		e.Hint = why.Hint
	}
	return e
}

// json reads a value of any shape.
func (d *decoder) json(n *yaml.Node, v reflect.Value, field string) error {
	value, err := d.anything(n, field)
	if err != nil {
		return err
	}
	b, err := json.Marshal(value)
	if err != nil {
		return bad(n.Line, field, "cannot be written as JSON: %v", err)
	}
	v.SetBytes(b)
	return nil
}

func (d *decoder) anything(n *yaml.Node, field string) (any, error) {
	tag := n.ShortTag()
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return nil, bad(n.Line, field, "aliases and anchors are not allowed")
	case tag == "!!binary" || !strings.HasPrefix(tag, "!!"):
		return nil, bad(n.Line, field, "the tag %.40s is not allowed", tag)
	case n.Kind == yaml.MappingNode:
		object := map[string]any{}
		return object, d.pairs(n, field, func(key string, _, val *yaml.Node) (err error) {
			object[key], err = d.anything(val, join(field, key))
			return err
		})
	case n.Kind == yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, elem := range n.Content {
			var err error
			if list[i], err = d.anything(elem, fmt.Sprintf("%s[%d]", field, i)); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	switch tag {
	case "!!null", "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			return nil, bad(n.Line, field, "%.60q cannot be read", n.Value)
		}
		return v, nil
	}
	return n.Value, nil // a date is a text here
}

// pairs calls each for every key of a mapping, once.
func (d *decoder) pairs(n *yaml.Node, field string, each func(key string, k, v *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return bad(n.Line, field, "%s is not keys with values", kind(n))
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Anchor != "" {
			return bad(k.Line, field, "%s is not a key", kind(k))
		}
		path := join(field, k.Value)
		if first, twice := seen[k.Value]; twice {
			return bad(k.Line, path, "is written twice, first on line %d", first)
		}
		seen[k.Value] = k.Line
		d.lines[path] = k.Line
		if err := each(k.Value, k, v); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) object(n *yaml.Node, v reflect.Value, field string) error {
	return d.pairs(n, field, func(key string, k, val *yaml.Node) error {
		var known []string
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if name == key {
				return d.value(val, v.Field(i), join(field, key))
			}
			known = append(known, name)
		}
		return bad(k.Line, join(field, key), "is not a key here").WithHint("the keys here are %s", strings.Join(known, ", "))
	})
}

func (d *decoder) table(n *yaml.Node, v reflect.Value, field string) error {
	v.Set(reflect.MakeMap(v.Type()))
	return d.pairs(n, field, func(key string, _, val *yaml.Node) error {
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(val, elem, join(field, key)); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key), elem)
		return nil
	})
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, field string) error {
	if n.Kind != yaml.SequenceNode {
		return bad(n.Line, field, "%s is not a list", kind(n)).WithHint("write it as [one, two]")
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, elem := range n.Content {
		path := fmt.Sprintf("%s[%d]", field, i)
		if elem.ShortTag() == "!!null" {
			return bad(elem.Line, path, "is empty")
		}
		if err := d.value(elem, v.Index(i), path); err != nil {
			return err
		}
	}
	return nil
}

// scalar reads a string, number or switch. Anything that is written as one word
// can be a string: THREADS: 4 is what people write.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, field string) error {
	if n.Kind != yaml.ScalarNode {
		return bad(n.Line, field, "%s is not a single value", kind(n))
	}
	if v.Kind() == reflect.String {
		v.SetString(n.Value)
		return nil
	}
	want, tags := "a whole number", "!!int"
	switch v.Kind() {
	case reflect.Bool:
		want, tags = "true or false", "!!bool"
	case reflect.Float64:
		want, tags = "a number", "!!int !!float"
	}
	// The library would cut 1.5 to 1, so the tag is checked as well.
	if err := n.Decode(v.Addr().Interface()); err != nil || !strings.Contains(tags, n.ShortTag()) {
		return bad(n.Line, field, "%.60q is not %s", n.Value, want)
	}
	return nil
}

func join(field, key string) string {
	const most = 120 // a hostile key must not flood the message
	if len(key) > most {
		key = key[:most] + "..."
	}
	if field == "" {
		return key
	}
	return field + "." + key
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of keys"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	return fmt.Sprintf("%.60q", n.Value)
}
