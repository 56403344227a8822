package lambda

import (
	"encoding/base64"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// classes reads every class of failure from the source, so that a new one cannot
// be forgotten here.
func allClasses(t *testing.T) []functions.Class {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../functions/failure.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []functions.Class
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Class" {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, functions.Class(text))
		}
		return true
	})
	return all
}

// TestEveryClassOfFailure ends a task with each class and looks at the answer.
// Without a code it is 200 with an error document.
func TestEveryClassOfFailure(t *testing.T) {
	type row struct {
		failure functions.Failure
		code    string // of the API error; empty = the function failed
		kind    string // errorType
		says    string // errorMessage, or in the message; ID stands for the task's id
	}
	device := func(kind string) row { return row{functions.Failure{Message: "gone"}, "", kind, "gone"} }
	rows := map[functions.Class]row{
		functions.ExitError:    {functions.Failure{Message: "ended with code 3: boom", ExitCode: 3}, "", "Runtime.ExitError", "RequestId: ID Error: Runtime exited with error: exit status 3: boom"},
		functions.Permanent:    {functions.Failure{Message: "ended with code 65", ExitCode: 65}, "", "Runtime.ExitError", "RequestId: ID Error: Runtime exited with error: exit status 65"},
		functions.TempFail:     {functions.Failure{Message: "busy", Type: "Busy", ExitCode: 75}, "", "Busy", "busy"},
		functions.Crashed:      {functions.Failure{Message: "ended with code 137", ExitCode: 137}, "", "Runtime.ExitError", "RequestId: ID Error: Runtime exited with error: signal: killed"},
		functions.BadEntry:     {functions.Failure{Message: "no such file", ExitCode: 127}, "", "Runtime.InvalidEntrypoint", "RequestId: ID Error: no such file"},
		functions.OutOfMemory:  {functions.Failure{Message: "used more than its 1GiB of memory", ExitCode: 137}, "", "Runtime.OutOfMemory", "used more than its 1GiB of memory"},
		functions.TimedOutRun:  {functions.Failure{Message: "ran past its limit of 3s"}, "", "Sandbox.Timedout", "RequestId: ID Error: Task timed out after 3.00 seconds"},
		functions.DiskExceeded: {functions.Failure{Message: "wrote too much"}, "", "Runtime.DiskExceeded", "wrote too much"},
		functions.BadOutput:    {functions.Failure{Message: "not JSON", Hint: "write JSON"}, "", "Function.BadOutput", "not JSON; write JSON"},
		functions.InputGone:    {functions.Failure{Message: "gone"}, "", "Function.InputGone", "gone"},

		functions.UploadExpired:  {functions.Failure{Message: "never came"}, "", "Function.InputGone", "never came"},
		functions.CanceledByUser: {functions.Failure{Message: "canceled by request"}, "", "Function.Canceled", "canceled by request"},

		functions.GPUHost: device("Runtime.DeviceError"), functions.GPUDevice: device("Runtime.DeviceError"), functions.GPUImage: device("Runtime.DeviceError"),
		functions.GPUUnknown: device("Runtime.DeviceError"), functions.GPUHung: device("Runtime.DeviceError"), functions.GPUMemory: device("Runtime.DeviceOutOfMemory"),
		functions.GPULost: device("Runtime.DeviceError"), functions.GPUMissing: device("Runtime.DeviceError"), functions.GPUUnsuited: device("Runtime.DeviceError"),
		functions.Declined: device("Runtime.DeviceError"),

		functions.QueueExpired: {functions.Failure{Message: "waited too long"}, codeTooManyRequests, "", "waited too long"},
		functions.ImageMissing: {functions.Failure{Message: "no image", Hint: "push it"}, codeNotReady, "", "no image; push it"},
		functions.Infra:        {functions.Failure{Message: "disk"}, codeService, "", "infrastructure: disk"},
		functions.Store:        {functions.Failure{Message: "store"}, codeService, "", "store"},
		functions.NodeLost:     {functions.Failure{Message: "silent"}, codeService, "", "node_lost: silent"},
		functions.Refused:      {functions.Failure{Message: "full"}, codeService, "", "refused: full"},
	}
	all := allClasses(t)
	if len(all) < 25 {
		t.Fatalf("the source shows %v", all)
	}
	for _, class := range all {
		t.Run(string(class), func(t *testing.T) {
			row, known := rows[class]
			if !known {
				t.Fatal("no row says how this class is answered")
			}
			row.failure.Class = class
			w := newWorld(t, nil)
			w.run = func(functions.Task) *functions.Outcome { return &functions.Outcome{Failure: &row.failure} }
			rec := w.invoke(t, "{}")
			says := strings.ReplaceAll(row.says, "ID", string(w.only(t).ID))
			if row.code != "" {
				check(t, rec, wants{problem(row.code, "").status, row.code, "", says})
				return
			}
			var got struct{ ErrorType, ErrorMessage string }
			if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || rec.Code != 200 || got.ErrorType != row.kind || got.ErrorMessage != says || rec.Header().Get("X-Amz-Function-Error") != "Unhandled" {
				t.Errorf("got %d %s %v, want %s: %s", rec.Code, rec.Body, rec.Header(), row.kind, says)
			}
		})
	}
}

// TestOwnErrorDocument: what a lambda function says of its failure comes through
// as it wrote it.
func TestOwnErrorDocument(t *testing.T) {
	const own = `{"errorMessage": "bad", "errorType": "ValueError", "requestId": "", "stackTrace": ["  File \"a.py\""]}`
	w := newWorld(t, nil)
	w.run = func(functions.Task) *functions.Outcome {
		return &functions.Outcome{Failure: &functions.Failure{Class: functions.ExitError, Type: "ValueError", Message: "bad", Body: json.RawMessage(own)}}
	}
	rec := w.invoke(t, "{}")
	check(t, rec, wants{status: 200, body: own})
	if rec.Header().Get("X-Amz-Function-Error") != "Unhandled" {
		t.Error("it is not marked as an error")
	}
}

func TestResults(t *testing.T) {
	text := "a <b> \"c\"\n"
	ref := func(key string, size int64) *functions.ObjectRef {
		return &functions.ObjectRef{Bucket: "results", Key: key, Size: size}
	}
	w := newWorld(t, nil)
	w.objects["json"], w.objects["text"], w.objects["binary"] = []byte(`[1, 2]`), []byte(text), []byte{0xff, 0xfe}
	w.objects["fat"] = []byte(strings.Repeat("\x01", maxBody/2)) // six bytes each, escaped
	oversize := string(oversized().document())
	for name, c := range map[string]struct {
		out  functions.Outcome
		want string
	}{
		"document":     {functions.Outcome{Result: json.RawMessage(`{"a": "<"}`)}, `{"a": "<"}`},
		"text":         {functions.Outcome{ResultText: &text}, `"a <b> \"c\"\n"`},
		"none":         {functions.Outcome{}, `null`},
		"files":        {functions.Outcome{Outputs: []functions.Output{{Name: "a.png", ObjectRef: functions.ObjectRef{Bucket: "results", Key: "t/1/a.png", Size: 3, ContentType: "image/png"}}}}, `{"outputs":[{"name":"a.png","bucket":"results","key":"t/1/a.png","size":3,"contentType":"image/png"}]}`},
		"stored":       {functions.Outcome{ResultRef: ref("json", 6)}, `[1, 2]`},
		"stored text":  {functions.Outcome{ResultRef: ref("text", 10)}, `"a <b> \"c\"\n"`},
		"no text":      {functions.Outcome{ResultRef: ref("binary", 2)}, `{"bucket":"results","key":"binary","size":2}`},
		"too large":    {functions.Outcome{ResultRef: ref("huge", maxResult+1)}, oversize},
		"too fat":      {functions.Outcome{ResultRef: ref("fat", maxBody/2)}, oversize},
		"refused":      {functions.Outcome{Failure: &functions.Failure{Class: functions.BadOutput, Type: typeOversized, Message: "the answer is over 6291556 bytes"}}, oversize},
		"just fitting": {functions.Outcome{ResultRef: ref("json", maxResult)}, `[1, 2]`},
	} {
		t.Run(name, func(t *testing.T) {
			w.run = func(functions.Task) *functions.Outcome { return &c.out }
			rec := w.invoke(t, "{}")
			check(t, rec, wants{status: 200, body: c.want})
			if failed := rec.Header().Get("X-Amz-Function-Error") != ""; failed != (c.want == oversize) {
				t.Errorf("function error: %v", failed)
			}
		})
	}
	w.run = func(functions.Task) *functions.Outcome { return &functions.Outcome{ResultRef: ref("lost", 1)} }
	check(t, w.invoke(t, "{}"), wants{status: 404, code: codeNotFound})
}

// TestFallbackIsTold: a call that a GPU failed is answered from the CPU, and the
// headers and the report say so.
func TestFallbackIsTold(t *testing.T) {
	w := newWorld(t, nil)
	w.run = func(task functions.Task) *functions.Outcome {
		if task.Attempt == 0 {
			w.start(task.ID, functions.GPU)
			n := functions.Outcome{Failure: &functions.Failure{Class: functions.GPUHost, Message: "no driver\nat all"}}
			w.apply(functions.Event{Kind: functions.Finish, Task: task.ID, At: time.Now(), Fin: &functions.Closing{Attempt: 1, Node: "n1", Outcome: n}})
			w.release(task.ID, functions.Verdict{To: functions.Queued, Device: functions.CPU, Fallback: functions.GPUHost})
			return nil
		}
		return &functions.Outcome{Result: task.Event, LogTail: "on the CPU", PeakMemory: 37 * functions.MiB,
			Phases: []functions.Span{{Phase: functions.PhaseLaunch, MS: 12.3}, {Phase: functions.PhaseRun, MS: 1.234}}}
	}
	rec := w.invoke(t, "{}", "X-Amz-Log-Type", "Tail", "Spillway-Device", "preferred")
	check(t, rec, wants{status: 200, body: "{}"})
	h := rec.Header()
	for name, want := range map[string]string{
		"Spillway-Device-Requested": "preferred", "Spillway-Device-Used": "cpu", "Spillway-Attempts": "2", "Spillway-Fallback-Reason": "gpu_host: no driver at all",
	} {
		if h.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, h.Get(name), want)
		}
	}
	log, err := base64.StdEncoding.DecodeString(h.Get("X-Amz-Log-Result"))
	id := string(w.only(t).ID)
	want := "START RequestId: " + id + " Version: $LATEST\non the CPU\nEND RequestId: " + id + "\nREPORT RequestId: " + id +
		"\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 512 MB\tMax Memory Used: 37 MB\tInit Duration: 12.30 ms\tDevice: cpu\tFallback: gpu_host: no driver at all\t\n"
	if err != nil || string(log) != want {
		t.Errorf("got  %q\nwant %q", log, want)
	}
}

func TestLogTailIsBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.run = func(task functions.Task) *functions.Outcome {
		return &functions.Outcome{LogTail: strings.Repeat("é", 2048)}
	}
	rec := w.invoke(t, "{}", "X-Amz-Log-Type", "Tail")
	log, err := base64.StdEncoding.DecodeString(rec.Header().Get("X-Amz-Log-Result"))
	if err != nil || len(log) > maxTail || len(log) < maxTail-1 || log[0] != 0xc3 || !strings.HasSuffix(string(log), "\tDevice: cpu\t\n") {
		t.Errorf("%d bytes: %.20q..., %v", len(log), log, err)
	}
}
