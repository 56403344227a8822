// Package dockertest starts a Docker engine of a test's own, beside the
// machine's, with a stand-in for NVIDIA's container toolkit in front of its
// PATH. The engine is real: it takes --gpus, runs the hook, and reports in its
// own words what the hook says. So a machine without a GPU can see a GPU launch
// succeed, and fail in every known way.
package dockertest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Mode is what the toolkit does with the next GPU containers.
type Mode string

const (
	OK      Mode = "ok"      // attaches the devices and leaves their ids in /opt/fake-gpu
	InitErr Mode = "initerr" // the driver is not loaded
	LoadLib Mode = "loadlib" // the driver's library is missing
	NoCLI   Mode = "nocli"   // nvidia-container-cli is missing
	Perm    Mode = "perm"    // device rules are not allowed
	Unknown Mode = "unknown" // no such device
	CUDA    Mode = "cuda"    // the image needs a newer driver
	Silent  Mode = "silent"  // fails without a word
)

// Slow is OK after d.
func Slow(d time.Duration) Mode { return Mode("slow " + d.String()) }

// Refuse is OK, but for one device.
func Refuse(gpu string) Mode { return Mode("refuse " + gpu) }

// Config says what engine to start.
type Config struct {
	NoToolkit   bool // no stand-in: the engine cannot select a device driver
	LiveRestore bool // containers outlive the engine
}

// Engine is a running engine; it ends with its test.
type Engine struct {
	Host string // unix:///path, for docker.Config and DOCKER_HOST

	t       testing.TB
	root    string
	path    string // dockerd's PATH
	dockerd *daemon
	below   *daemon // containerd
}

// hookPackage is the stand-in's program, compiled when a test asks for it.
const hookPackage = "github.com/spillway/spillway/runtime/docker/dockertest/testdata/hook"

// The limits of an engine's life here; starting takes about two seconds.
const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
)

// Start starts an engine in Mode OK. Where that cannot be (no root, no dockerd)
// the test is skipped, or fails when SPILLWAY_REQUIRE_DOCKER is set.
func Start(t testing.TB, c Config) *Engine {
	t.Helper()
	for _, program := range []string{"dockerd", "containerd"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, "no "+program+" here")
		}
	}
	if os.Geteuid() != 0 {
		lacking(t, "a second dockerd needs root")
	}
	root, err := os.MkdirTemp("", "swd") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{Host: "unix://" + filepath.Join(root, "d.sock"), t: t, root: root}
	t.Cleanup(e.clean)
	e.path = os.Getenv("PATH")
	if !c.NoToolkit {
		e.path = e.toolkit() + string(os.PathListSeparator) + e.path
	}
	e.SetMode(OK)
	config := fmt.Sprintf(`{"live-restore": %t}`, c.LiveRestore)
	if err := os.WriteFile(e.file("daemon.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	e.containerd()
	e.start()
	return e
}

// containerd starts the containerd below the engine. One that dockerd starts by
// itself dies with it, and containers with that; hosts do not run it so.
func (e *Engine) containerd() {
	e.t.Helper()
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [%q]\n[grpc]\naddress = %q\n",
		e.file("ctd"), e.file("ctd-run"), "io.containerd.grpc.v1.cri", e.file("c.sock"))
	if err := os.WriteFile(e.file("containerd.toml"), []byte(config), 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.below = e.launch("containerd", "--config", e.file("containerd.toml"))
	e.poll(e.below.ended, "containerd", func() bool {
		conn, err := net.Dial("unix", e.file("c.sock"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// Crash kills the engine where it stands, as a fault would; its containers may
// run on. Restart brings it back.
func (e *Engine) Crash() {
	e.t.Helper()
	e.dockerd.Kill()
	<-e.dockerd.ended
}

// Restart starts the engine again after Crash, at the same address.
func (e *Engine) Restart() {
	e.t.Helper()
	e.start()
}

// start starts dockerd and waits until it answers.
func (e *Engine) start() {
	e.t.Helper()
	name := filepath.Base(e.root)
	e.dockerd = e.launch("dockerd",
		"--config-file", e.file("daemon.json"), // the machine's own must not leak in
		"--host", e.Host, "--pidfile", e.file("pid"), "--containerd", e.file("c.sock"),
		"--data-root", e.file("data"), "--exec-root", e.file("exec"), "--storage-driver", "vfs",
		"--containerd-namespace", name, "--containerd-plugins-namespace", name+"-plugins",
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--shutdown-timeout", "2")
	socket := e.file("d.sock")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	e.poll(e.dockerd.ended, "dockerd", func() bool {
		answer, err := client.Get("http://engine/_ping")
		if err == nil {
			answer.Body.Close()
		}
		return err == nil
	})
}

// SetMode says what the toolkit does from now on.
func (e *Engine) SetMode(m Mode) {
	e.t.Helper()
	next := e.file("mode.next")
	if err := os.WriteFile(next, []byte(m), 0o644); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(next, e.file("mode")); err != nil { // the hook never reads half of it
		e.t.Fatal(err)
	}
}

// Log returns what the engine has logged.
func (e *Engine) Log() string {
	text, err := os.ReadFile(e.file("log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (e *Engine) file(name string) string { return filepath.Join(e.root, name) }

// toolkit compiles the stand-in and returns its folder.
func (e *Engine) toolkit() string {
	dir := e.file("bin")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "nvidia-container-runtime-hook"), hookPackage)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		e.t.Fatalf("build the toolkit's stand-in: %v\n%s", err, out)
	}
	return dir
}

// clean unmounts what is left and removes every file.
func (e *Engine) clean() {
	if e.t.Failed() {
		if text := e.Log(); len(text) > 0 {
			e.t.Logf("the end of dockerd's log:\n%s", text[max(0, len(text)-4096):])
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		e.t.Error(err)
	}
	lines := strings.Split(string(mounts), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // the newest first
		if fields := strings.Fields(lines[i]); len(fields) > 1 && strings.HasPrefix(fields[1], e.root+"/") {
			syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(e.root); err != nil {
		e.t.Errorf("remove the engine's files: %v", err)
	}
}

func lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("SPILLWAY_REQUIRE_DOCKER") != "" {
		t.Fatalf("%s, and SPILLWAY_REQUIRE_DOCKER is set", what)
	}
	t.Skipf("SKIPPED: %s", what)
}
