package serve

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestOutputOfOneTaskAtATime(t *testing.T) {
	o := newOutput()
	out, errs := side{o, 0}, side{o, 1}
	var first, second, wrong runtimetest.Pane
	o.attach("start", Words{&first, &wrong})
	fmt.Fprint(out, "loading")
	o.drop("start", false)
	fmt.Fprint(out, "nobody's\n")
	o.attach("a", Words{&second, &second})
	fmt.Fprint(out, "half ")
	fmt.Fprint(errs, "a line\n")
	o.detach("a")
	fmt.Fprint(out, "late\n")
	if first.String() != "loading" || second.String() != "half a line\n" || wrong.String() != "" {
		t.Errorf("got %q, %q and %q", first.String(), second.String(), wrong.String())
	}
	if got := o.errors(); got != "a line\n" {
		t.Errorf("standard error %q", got)
	}
	o.attach("b", Words{})
	if got := o.errors(); got != "" {
		t.Errorf("the next task begins with the standard error %q", got)
	}
	fmt.Fprint(errs, strings.Repeat("x", 3*stderrKept))
	if n := len(o.errors()); n > 2*stderrKept {
		t.Errorf("%d bytes of standard error are kept", n)
	}
}

// With several tasks at a time only lines that say whose they are are given on.
func TestOutputOfSeveralTasks(t *testing.T) {
	o := newOutput()
	out := side{o, 0}
	o.drop("", true)
	var a, b runtimetest.Pane
	o.attach("task-a", Words{Stdout: &a})
	o.attach("task-b", Words{Stdout: &b})
	fmt.Fprint(out, `{"msg":"one","requestId":"task-a"}`+"\n"+`{"requestId":"ta`)
	fmt.Fprint(out, `sk-b"}`+"\nplain words of task-a\n"+`{"msg":"whose?"}`+"\n")
	fmt.Fprint(out, strings.Repeat("x", 3*longestLine)+"\n"+`{"id":"task-a"}`+"\n")
	if got := a.String(); got != `{"msg":"one","requestId":"task-a"}`+"\n"+`{"id":"task-a"}`+"\n" {
		t.Errorf("task-a: %q", got)
	}
	if got := b.String(); got != `{"requestId":"task-b"}`+"\n" {
		t.Errorf("task-b: %q", got)
	}
}
