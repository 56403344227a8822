package functions

import (
	"fmt"
	"regexp"
)

// Name names a function: 1 to 64 letters, digits, '-' or '_', starting with a
// letter or digit. The alphabet is AWS Lambda's, so that its clients can name
// any function, and holds nothing that is special in a log subject or a path.
type Name string

// TaskID identifies a task for ever. It is a UUIDv7: ids sort by creation time,
// and AWS clients accept it as a request id.
type TaskID string

// NodeID names a node. It follows the rules of Name.
type NodeID string

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	idPattern   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// Validate returns an ErrInvalid error when n is not a legal name.
func (n Name) Validate() error {
	if !namePattern.MatchString(string(n)) {
		return Invalid("bad_name", "%q is not a function name", trim(string(n))).
			WithHint("use 1 to 64 letters, digits, '-' or '_', starting with a letter or digit")
	}
	return nil
}

// Validate returns an ErrInvalid error when n is not a legal node name.
func (n NodeID) Validate() error {
	if !namePattern.MatchString(string(n)) {
		return Invalid("bad_name", "%q is not a node name", trim(string(n))).
			WithHint("use 1 to 64 letters, digits, '-' or '_', starting with a letter or digit")
	}
	return nil
}

// Validate returns an ErrInvalid error when id is not a lower-case UUID.
func (id TaskID) Validate() error {
	if !idPattern.MatchString(string(id)) {
		return Invalid("bad_task_id", "%q is not a task id", trim(string(id)))
	}
	return nil
}

// trim keeps hostile input from flooding an error message.
func trim(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:most], len(s))
}
