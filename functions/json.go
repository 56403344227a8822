package functions

import "encoding/json"

// JSON is any JSON value, as it was written.
type JSON json.RawMessage

// MarshalJSON implements json.Marshaler.
func (j JSON) MarshalJSON() ([]byte, error) { return json.RawMessage(j).MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (j *JSON) UnmarshalJSON(b []byte) error { return (*json.RawMessage)(j).UnmarshalJSON(b) }

// MarshalYAML gives the value itself to a YAML encoder.
func (j JSON) MarshalYAML() (any, error) {
	var v any
	err := json.Unmarshal(j, &v)
	return v, err
}
