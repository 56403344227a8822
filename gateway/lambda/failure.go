package lambda

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spillway/spillway/functions"
)

// failure is how a function failed, in AWS's words.
type failure struct {
	Type    string          `json:"errorType"`
	Message string          `json:"errorMessage"`
	own     json.RawMessage // the function's own document, which goes before these
}

func (f *failure) document() []byte {
	if len(f.own) > 0 {
		return f.own
	}
	body, _, _ := encode(f) // two strings always encode
	return body
}

// maxResult is the largest result, in bytes; AWS's emulator allows as much.
const maxResult = maxBody + 100

const typeOversized = "Function.ResponseSizeTooLarge"

func oversized() *failure {
	return &failure{Type: typeOversized, Message: fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxResult)}
}

// errorTypes are the error types of failures that the function did not name itself.
var errorTypes = map[functions.Class]string{
	functions.ExitError:      "Runtime.ExitError",
	functions.Permanent:      "Runtime.ExitError",
	functions.TempFail:       "Runtime.ExitError",
	functions.Crashed:        "Runtime.ExitError",
	functions.BadEntry:       "Runtime.InvalidEntrypoint",
	functions.OutOfMemory:    "Runtime.OutOfMemory",
	functions.TimedOutRun:    "Sandbox.Timedout",
	functions.DiskExceeded:   "Runtime.DiskExceeded",
	functions.BadOutput:      "Function.BadOutput",
	functions.InputGone:      "Function.InputGone",
	functions.CanceledByUser: "Function.Canceled",
	functions.UploadExpired:  "Function.InputGone",

	functions.GPUHost:     "Runtime.DeviceError",
	functions.GPUDevice:   "Runtime.DeviceError",
	functions.GPUImage:    "Runtime.DeviceError",
	functions.GPUUnknown:  "Runtime.DeviceError",
	functions.GPUHung:     "Runtime.DeviceError",
	functions.GPUMemory:   "Runtime.DeviceOutOfMemory",
	functions.GPULost:     "Runtime.DeviceError",
	functions.GPUMissing:  "Runtime.DeviceError",
	functions.GPUUnsuited: "Runtime.DeviceError",
	functions.Declined:    "Runtime.DeviceError",
}

// failureOf says how an ended task failed: as a failure of the function, or as
// an error of the service where it was not the function's doing. Both are nil for
// a task that succeeded.
func (a *API) failureOf(t *functions.Task) (*failure, *apiError) {
	if t.State == functions.Succeeded {
		return nil, nil
	}
	f := functions.Failure{Class: functions.Infra, Message: "the task ended as " + string(t.State)}
	if t.Failure != nil {
		f = *t.Failure
	}
	switch {
	case f.Class == functions.QueueExpired:
		return nil, throttled(reasonConcurrency, "Rate Exceeded. The call %s.", f.Message)
	case f.Class == functions.ImageMissing:
		return nil, problem(codeNotReady, "%s", sentence(f.Message, f.Hint))
	case errorTypes[f.Class] == "": // the platform's own
		return nil, problem(codeService, "%s: %s", f.Class, sentence(f.Message, f.Hint))
	}
	if f.Type == typeOversized {
		return oversized(), nil
	}
	return &failure{Type: cmp.Or(f.Type, errorTypes[f.Class]), Message: a.message(t, f), own: f.Body}, nil
}

// message is what is said of a failure. What AWS's own runtimes would have said
// is said as they say it, because clients look for it.
func (a *API) message(t *functions.Task, f functions.Failure) string {
	request := "RequestId: " + string(t.ID) + " Error: "
	switch {
	case f.Class == functions.TimedOutRun:
		return request + fmt.Sprintf("Task timed out after %.2f seconds", a.limit(t).Seconds())
	case f.Type != "":
		return f.Message
	case f.Class == functions.BadEntry, f.Class == functions.Crashed && f.ExitCode <= 128:
		return request + f.Message
	case f.Class == functions.Crashed:
		return request + "Runtime exited with error: " + signal(f.ExitCode-128)
	case errorTypes[f.Class] == "Runtime.ExitError" && f.ExitCode != 0:
		said := strings.TrimPrefix(f.Message, fmt.Sprintf("ended with code %d", f.ExitCode))
		return request + fmt.Sprintf("Runtime exited with error: exit status %d", f.ExitCode) + said
	}
	return sentence(f.Message, f.Hint)
}

// signal names what ended a process, as Go's os package does.
func signal(n int) string {
	switch n {
	case 6:
		return "signal: aborted"
	case 9:
		return "signal: killed"
	case 11:
		return "signal: segmentation fault"
	case 15:
		return "signal: terminated"
	}
	return fmt.Sprintf("signal: signal %d", n)
}

func sentence(message, hint string) string {
	if hint == "" {
		return message
	}
	return message + "; " + hint
}
