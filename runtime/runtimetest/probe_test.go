package runtimetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A probe that finds nothing outside of any sandbox would prove nothing inside one.
func TestProbesFindWhatIsOpen(t *testing.T) {
	program := filepath.Join(t.TempDir(), "box")
	build(t, program, boxPackage)
	if err := os.Chmod(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	box := exec.Command(program, "probe")
	if os.Geteuid() == 0 { // it must do no harm here
		if err := os.Chmod(filepath.Dir(filepath.Dir(program)), 0o755); err != nil {
			t.Fatal(err)
		}
		box.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{65534, 65533}}}
	}
	out, err := box.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found := string(out)
	for _, want := range []string{
		"filter: seccomp mode [0], want 2\n",
		"calls: mount is not refused: bad address\n",
		"calls: setns is not refused: bad file descriptor\n",
		"calls: keyctl is not refused: errno 0\n",
		"masked: /proc/",
		"processes: process ",
		"read-only: /proc/sys is on a writable mount\n",
		"mounts: ",
		"devices: /dev/",
	} {
		if !strings.Contains(found, want) {
			t.Errorf("not found: %q in\n%s", want, found)
		}
	}
	for _, i := range isolation {
		if !strings.Contains(found, "probed "+i.probe+"\n") {
			t.Errorf("no probe %s", i.probe)
		}
	}
}
