// Package containerdtest starts a containerd of a test's own beside the
// machine's: with its own files, socket and state, and gone with all that it ran
// when the test ends.
package containerdtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// requireVariable makes a lack of containerd a failure.
const requireVariable = "SPILLWAY_REQUIRE_CONTAINERD"

// The limits of a daemon's life here; starting takes less than a second.
const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second

	settleLimit = 10 * time.Second // of what a test leaves
)

// Daemon is a running containerd; it ends with its test.
type Daemon struct {
	Address string // path of its socket

	t       testing.TB
	root    string
	program string
	process *os.Process
	ended   chan struct{} // closed when the process has ended
}

// Machine is the machine's containerd program. Where there is none or it cannot
// be used the test is skipped, or fails when SPILLWAY_REQUIRE_CONTAINERD is set.
func Machine(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("containerd")
	if err != nil {
		Lacking(t, "no containerd here")
	}
	return path
}

// Built is the containerd 2.x that deploy/containerd/build.sh has built, or the
// program in the folder SPILLWAY_CONTAINERD_BIN. Without one the test is skipped.
func Built(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("SPILLWAY_CONTAINERD_BIN")
	if dir == "" {
		dir = filepath.Join(repository(t), ".cache", "containerd")
	}
	path := filepath.Join(dir, "containerd")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SPILLWAY_CONTAINERD_BIN") != "" {
			t.Fatalf("SPILLWAY_CONTAINERD_BIN: %v", err)
		}
		t.Skip("SKIPPED: containerd 2.x is not built: deploy/containerd/build.sh builds it")
	}
	return path
}

// repository is the folder of go.mod above a test's own.
func repository(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("the test does not run below go.mod")
	return ""
}

// Start starts a containerd, whose shim lies beside its program or in PATH.
func Start(t testing.TB, program string) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacking(t, "a second containerd needs root")
	}
	root, err := os.MkdirTemp("", "swc") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Address: filepath.Join(root, "c.sock"), t: t, root: root, program: program}
	t.Cleanup(d.clean)
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [%q]\n[grpc]\naddress = %q\n",
		d.file("data"), d.file("run"), "io.containerd.grpc.v1.cri", d.Address)
	if err := os.WriteFile(d.file("containerd.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	return d
}

// Crash kills the daemon where it stands. Its containers run on. Restart brings
// it back.
func (d *Daemon) Crash() {
	d.process.Kill()
	<-d.ended
}

// Restart starts the daemon again after Crash, at the same address.
func (d *Daemon) Restart() {
	d.t.Helper()
	d.start()
}

func (d *Daemon) file(name string) string { return filepath.Join(d.root, name) }

// start starts the daemon and waits until its socket answers.
func (d *Daemon) start() {
	d.t.Helper()
	log, err := os.OpenFile(d.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(d.program, "--config", d.file("containerd.toml"))
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(d.program)+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is the test's to handle
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("start %s: %v", d.program, err)
	}
	ended := make(chan struct{})
	d.process, d.ended = cmd.Process, ended
	go func() { cmd.Wait(); close(ended) }()
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("unix", d.Address); err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-d.ended:
			d.t.Fatalf("containerd ended:\n%s", d.logged())
		case <-deadline.C:
			d.t.Fatalf("containerd does not answer after %v:\n%s", startLimit, d.logged())
		}
	}
}

func (d *Daemon) logged() string {
	text, err := os.ReadFile(d.file("log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}

// Lacking skips a test, or fails it when SPILLWAY_REQUIRE_CONTAINERD is set.
func Lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(requireVariable) != "" {
		t.Fatalf("%s, and %s is set", what, requireVariable)
	}
	t.Skipf("SKIPPED: %s", what)
}

// sockets are where a containerd answers that Docker uses.
var sockets = []string{"/run/docker/containerd/containerd.sock", "/run/containerd/containerd.sock"}

// Below is the socket of the containerd under the machine's Docker. It is not
// the test's own: use it in a namespace of your own only.
func Below(t testing.TB) string {
	t.Helper()
	for _, path := range sockets {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return path
		}
	}
	Lacking(t, "no containerd under Docker here")
	return ""
}
