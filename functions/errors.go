package functions

import (
	"errors"
	"fmt"
)

// The classes of error that cross package borders. Adapters translate their
// library's errors to one of these by type; anything else is internal. A
// function's own failure is never an error: it is a Failure in an Outcome.
var (
	ErrInvalid     = errors.New("invalid")     // the caller must change the request
	ErrNotFound    = errors.New("not found")   // no such function, task, object, node
	ErrConflict    = errors.New("conflict")    // the state does not allow it, or a key was reused for another body
	ErrThrottled   = errors.New("throttled")   // a limit is reached; try again later
	ErrTimeout     = errors.New("timeout")     // a deadline passed
	ErrUnavailable = errors.New("unavailable") // a part we depend on does not answer
	ErrTooLarge    = errors.New("too large")   // the request body is over its limit
	ErrForbidden   = errors.New("not allowed") // no key, or one without the right
	ErrStale       = errors.New("stale")       // an event failed its guard; it changes nothing
)

// Error is a class with what a person and a program need: a stable code, a
// message, and what to do next.
type Error struct {
	Class   error  // one of the sentinels above; errors.Is sees it
	Code    string // stable, lower_snake_case
	Message string // what happened, safe to show to the caller
	Hint    string // what to do next; may be empty
	Field   string // JSON pointer or key of the wrong field; may be empty
	Cause   error  // kept for the log; may be nil
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap lets errors.Is match both the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Cause}
}

// WithHint returns a copy of e that says what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithField returns a copy of e that names the wrong field.
func (e *Error) WithField(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

// WithCause returns a copy of e that keeps err for the log.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.Cause = err
	return &c
}

// NewError makes an error of a class.
func NewError(class error, code, format string, args ...any) *Error {
	return &Error{Class: class, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid makes an ErrInvalid error.
func Invalid(code, format string, args ...any) *Error {
	return NewError(ErrInvalid, code, format, args...)
}

// NotFound makes an ErrNotFound error.
func NotFound(code, format string, args ...any) *Error {
	return NewError(ErrNotFound, code, format, args...)
}

// Conflict makes an ErrConflict error.
func Conflict(code, format string, args ...any) *Error {
	return NewError(ErrConflict, code, format, args...)
}

// Unavailable makes an ErrUnavailable error.
func Unavailable(code, format string, args ...any) *Error {
	return NewError(ErrUnavailable, code, format, args...)
}

// Forbidden makes an ErrForbidden error.
func Forbidden(code, format string, args ...any) *Error {
	return NewError(ErrForbidden, code, format, args...)
}
