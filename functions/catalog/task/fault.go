package task

import (
	"errors"
	"fmt"
)

// Code is an exit code of the contract. It tells the platform what may help.
type Code int

const (
	ExitOK       Code = 0
	ExitError    Code = 1  // the function's retry policy decides
	ExitUsage    Code = 64 // the call is wrong: never tried again
	ExitData     Code = 65 // the input is wrong: never tried again
	ExitNoInput  Code = 66 // the input is missing: never tried again
	ExitTempFail Code = 75 // worth trying again
	ExitDevice   Code = 79 // this device cannot be used: try another kind
)

// Fault is a failure that the caller is told in full.
type Fault struct {
	Code    Code
	Type    string // stable, CamelCase
	Message string
}

func (f *Fault) Error() string { return f.Type + ": " + f.Message }

// Retryable reports whether the same call may succeed later.
func (f *Fault) Retryable() bool {
	switch f.Code {
	case ExitUsage, ExitData, ExitNoInput:
		return false
	}
	return true
}

// Usage is a wrong call.
func Usage(kind, format string, args ...any) *Fault { return fault(ExitUsage, kind, format, args) }

// Invalid is an input that cannot be worked on.
func Invalid(kind, format string, args ...any) *Fault { return fault(ExitData, kind, format, args) }

// NoInput is a missing input.
func NoInput(kind, format string, args ...any) *Fault { return fault(ExitNoInput, kind, format, args) }

// NoDevice says that the device given cannot be used here.
func NoDevice(kind, format string, args ...any) *Fault { return fault(ExitDevice, kind, format, args) }

func fault(c Code, kind, format string, args []any) *Fault {
	return &Fault{Code: c, Type: kind, Message: fmt.Sprintf(format, args...)}
}

// asFault turns any error into a Fault; one that is not a Fault already is the
// function's own error, which its retry policy may try again.
func asFault(err error) *Fault {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	return &Fault{Code: ExitError, Type: "Error", Message: err.Error()}
}
