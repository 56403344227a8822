package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions"
)

func TestWithDefaults(t *testing.T) {
	asked := Spec{Image: "a", User: "1:1", MilliCPU: 1, Memory: 2, Pids: 3, LogSize: functions.GiB, Tmpfs: []Tmpfs{{Target: "/a", Size: 5}, {Target: "/b"}}}
	whole := asked
	whole.Tmpfs = []Tmpfs{{Target: "/a", Size: 5}, {Target: "/b", Size: DefaultTmpfs}}
	for _, c := range []struct{ spec, want Spec }{
		{Spec{}, Spec{User: DefaultUser, MilliCPU: DefaultMilliCPU, Memory: DefaultMemory, Pids: DefaultPids, LogSize: DefaultLogSize}},
		{asked, whole},
		{Spec{LogSize: 1}, Spec{User: DefaultUser, MilliCPU: DefaultMilliCPU, Memory: DefaultMemory, Pids: DefaultPids, LogSize: LeastLogSize}},
	} {
		if diff := cmp.Diff(c.want, c.spec.WithDefaults()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if asked.Tmpfs[1].Size != 0 {
		t.Error("the caller's own spec was changed")
	}
}

func TestArgv(t *testing.T) {
	image := Image{Entrypoint: []string{"/box"}, Command: []string{"echo"}}
	for _, c := range []struct {
		entrypoint, command []string
		image               Image
		want                []string
	}{
		{nil, nil, image, []string{"/box", "echo"}},
		{nil, []string{"exit", "1"}, image, []string{"/box", "exit", "1"}},
		{[]string{"/run"}, nil, image, []string{"/run"}}, // what the image appends is for its own
		{[]string{"/run"}, []string{"a"}, image, []string{"/run", "a"}},
		{[]string{}, []string{"a"}, image, []string{"a"}},
		{nil, nil, Image{Command: []string{"sh"}}, []string{"sh"}},
		{nil, nil, Image{}, nil},
	} {
		if diff := cmp.Diff(c.want, c.image.Argv(c.entrypoint, c.command)); diff != "" {
			t.Errorf("%q %q over %q %q (-want +got):\n%s", c.entrypoint, c.command, c.image.Entrypoint, c.image.Command, diff)
		}
	}
}
