package functions

import (
	"fmt"
	"strconv"
	"strings"
	"time"
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

// Validate returns an ErrInvalid error when n is not a legal name.
func (n Name) Validate() error {
	if !isName(string(n)) {
		return Invalid("bad_name", "%q is not a function name", trim(string(n))).
			WithHint("use 1 to 64 letters, digits, '-' or '_', starting with a letter or digit")
	}
	return nil
}

// Validate returns an ErrInvalid error when n is not a legal node name.
func (n NodeID) Validate() error {
	if !isName(string(n)) {
		return Invalid("bad_name", "%q is not a node name", trim(string(n))).
			WithHint("use 1 to 64 letters, digits, '-' or '_', starting with a letter or digit")
	}
	return nil
}

// Validate returns an ErrInvalid error when id is not a lower-case UUID.
func (id TaskID) Validate() error {
	if !isUUID(string(id)) {
		return Invalid("bad_task_id", "%q is not a task id", trim(string(id)))
	}
	return nil
}

// Time is when the id was made, to the millisecond: the first 48 bits of a
// UUIDv7. It is the zero time when id is not a legal id, or a UUID of another
// version.
func (id TaskID) Time() time.Time {
	if id.Validate() != nil || id[14] != '7' || !strings.ContainsRune("89ab", rune(id[19])) {
		return time.Time{}
	}
	ms, err := strconv.ParseInt(string(id[:8]+id[9:13]), 16, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// isName and isUUID are written out because every request and every event asks
// them several times: as regular expressions they took 4 % of the CPU under load.
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '-' || c == '_'):
		default:
			return false
		}
	}
	return true
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// trim keeps hostile input from flooding an error message.
func trim(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:most], len(s))
}
