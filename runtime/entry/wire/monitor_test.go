package wire

import (
	"errors"
	"reflect"
	"testing"
)

func TestMonitorMessages(t *testing.T) {
	l := Launch{
		Argv: []string{"/usr/bin/crun", "run", "", "a=b\nc"}, Root: "/r", Scratch: "/s", Layers: []string{"/l/1", "/l/2"},
		Room: 1 << 20, Hide: []string{"/sys/fs/cgroup/unified"}, Memory: "/m", Log: "/log", LogSize: 1 << 40,
	}
	text, err := l.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseLaunch(text); err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("launch: %+v, %v, want %+v", got, err, l)
	}
	for _, e := range []Exit{{}, {Code: 137, OOMKilled: true, StartedAt: 1, FinishedAt: 1 << 60}, {Code: 125, Error: "no = such\nprogram"}} {
		text, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseExit(text); err != nil || got != e {
			t.Errorf("exit: %+v, %v, want %+v", got, err, e)
		}
		if _, err := ParseExit(text[:len(text)-1]); !errors.Is(err, ErrFields) {
			t.Errorf("cut off: %v, want %v", err, ErrFields)
		}
	}
	if _, err := (Launch{Root: "a\x00b"}).Append(nil); !errors.Is(err, ErrFields) {
		t.Errorf("a path with a NUL byte: %v, want %v", err, ErrFields)
	}
}
