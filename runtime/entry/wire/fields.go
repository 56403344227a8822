package wire

import (
	"errors"
	"strconv"
	"strings"
)

// Version is of this protocol.
const Version = 1

// Names of the descriptors in a Hello.
const (
	NameAPI  = "api"  // listens on 127.0.0.1:PortAPI
	NameS3   = "s3"   // listens on 127.0.0.1:PortS3
	NameConn = "conn" // is not connected
)

// The ports of the two listeners, on 127.0.0.1 in the container.
const (
	PortAPI = 9001
	PortS3  = 9002
)

// MaxConns bounds the sockets of one Hello that are not connected.
const MaxConns = 64

// Hello is the first frame. Descriptors names, in order, the sockets that came
// with it.
type Hello struct {
	V           int
	Descriptors []string
}

// Orders say what to run. Env is added to the entry's own environment and wins.
type Orders struct {
	V    int
	Argv []string
	Env  []string
	Dir  string // empty keeps the image's
	// Exec replaces the entry program by the command: nothing of it remains, and
	// the engine alone tells the exit. Otherwise the entry stays as the parent,
	// sends the output and the Report, and exits with the command's code.
	Exec bool
}

// Report is how a command ended.
type Report struct {
	Exit     int    // 128 and the number for a signal
	Signal   int    // that ended it; 0 = it exited
	MaxRSS   int64  // bytes, of the largest of its processes
	UserUS   int64  // microseconds on the processor
	SystemUS int64  // microseconds in the kernel
	Left     bool   // processes that it started are alive; they end with the container
	Error    string // why it could not be run
}

// ErrFields means that the text of a Hello, Orders or Report cannot be read, or
// that a value has a NUL byte in it and cannot be written.
var ErrFields = errors.New("a message of the entry protocol is malformed")

// The three are written as lines "name=value" that end with a NUL byte, as a
// process's environment is: no value may have one, and a reader needs no more
// than a loop. A list is several lines of one name; a name that is not known is
// passed over.

// Append appends the message to b.
func (h Hello) Append(b []byte) ([]byte, error) {
	f := fields{text: b}
	f.number("v", int64(h.V))
	f.list("fd", h.Descriptors)
	return f.text, f.err
}

// ParseHello reads a message.
func ParseHello(text []byte) (Hello, error) {
	var h Hello
	err := each(text, func(name, value string) (err error) {
		switch name {
		case "v":
			h.V, err = strconv.Atoi(value)
		case "fd":
			h.Descriptors = append(h.Descriptors, value)
		}
		return err
	})
	return h, err
}

// Append appends the message to b.
func (o Orders) Append(b []byte) ([]byte, error) {
	f := fields{text: b}
	f.number("v", int64(o.V))
	f.list("argv", o.Argv)
	f.list("env", o.Env)
	f.word("cwd", o.Dir)
	if o.Exec {
		f.number("exec", 1)
	}
	return f.text, f.err
}

// ParseOrders reads a message.
func ParseOrders(text []byte) (Orders, error) {
	var o Orders
	err := each(text, func(name, value string) (err error) {
		switch name {
		case "v":
			o.V, err = strconv.Atoi(value)
		case "argv":
			o.Argv = append(o.Argv, value)
		case "env":
			o.Env = append(o.Env, value)
		case "cwd":
			o.Dir = value
		case "exec":
			o.Exec = value == "1"
		}
		return err
	})
	return o, err
}

// Append appends the message to b.
func (r Report) Append(b []byte) ([]byte, error) {
	f := fields{text: b}
	f.number("exit", int64(r.Exit))
	f.number("signal", int64(r.Signal))
	f.number("maxrss", r.MaxRSS)
	f.number("utime_us", r.UserUS)
	f.number("stime_us", r.SystemUS)
	if r.Left {
		f.number("left", 1)
	}
	f.word("error", r.Error)
	return f.text, f.err
}

// ParseReport reads a message.
func ParseReport(text []byte) (Report, error) {
	var r Report
	err := each(text, func(name, value string) (err error) {
		switch name {
		case "exit":
			r.Exit, err = strconv.Atoi(value)
		case "signal":
			r.Signal, err = strconv.Atoi(value)
		case "maxrss":
			r.MaxRSS, err = strconv.ParseInt(value, 10, 64)
		case "utime_us":
			r.UserUS, err = strconv.ParseInt(value, 10, 64)
		case "stime_us":
			r.SystemUS, err = strconv.ParseInt(value, 10, 64)
		case "left":
			r.Left = value == "1"
		case "error":
			r.Error = value
		}
		return err
	})
	return r, err
}

// fields writes a message; err is the first value that could not be written.
type fields struct {
	text []byte
	err  error
}

func (f *fields) line(name, value string) {
	if strings.IndexByte(value, 0) >= 0 {
		f.err = ErrFields
	}
	f.text = append(append(append(append(f.text, name...), '='), value...), 0)
}

func (f *fields) word(name, value string) {
	if value != "" {
		f.line(name, value)
	}
}

func (f *fields) number(name string, value int64) { f.line(name, strconv.FormatInt(value, 10)) }

func (f *fields) list(name string, values []string) {
	for _, v := range values {
		f.line(name, v)
	}
}

// each passes on every line of a message, up to the first that is malformed.
func each(text []byte, use func(name, value string) error) error {
	for rest := string(text); rest != ""; {
		line, after, ended := strings.Cut(rest, "\x00")
		name, value, ok := strings.Cut(line, "=")
		if !ended || !ok || use(name, value) != nil {
			return ErrFields
		}
		rest = after
	}
	return nil
}
