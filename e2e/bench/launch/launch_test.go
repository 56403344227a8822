package launch

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/e2e/bench/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWaysLaunch launches twice each way that this machine has. Of Docker and
// runc it must have both when SPILLWAY_REQUIRE_DOCKER is set.
func TestWaysLaunch(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what needs containers")
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: containers without an engine need root")
	}
	img, err := BuildImage(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"docker run (CLI)", "Docker API", "driver docker", "driver containerd", "driver oci (crun)", "driver oci (runc)", "runc run", "crun run", "ctr run", "podman run"} {
		t.Run(way, func(t *testing.T) {
			all := Openers()
			i := slices.IndexFunc(all, func(o Opener) bool { return o.Name == way })
			// Sockets of daemons must be short.
			dir, err := os.MkdirTemp("", "launch-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			peer, err := all[i].Open(t.Context(), dir, img)
			if errors.Is(err, measure.ErrSkip) {
				if os.Getenv("SPILLWAY_REQUIRE_DOCKER") != "" && (strings.Contains(way, "ocker") || way == "runc run") {
					t.Fatalf("%v, and SPILLWAY_REQUIRE_DOCKER is set", err)
				}
				t.Skipf("SKIPPED: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			results, err := measure.Serial{Rounds: 2}.Run(t.Context(), []measure.Op{peer.Once})
			if err != nil {
				t.Error(err)
			}
			if r := results[0]; r.Failures > 0 {
				t.Errorf("%d failures, the first: %v", r.Failures, r.Err)
			} else if r.Latency.Min <= 0 {
				t.Errorf("took %v ms", r.Latency.Min)
			}
			if err := peer.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			left, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				t.Fatal(err)
			}
			if m := mountsBelow(string(left), dir); len(m) > 0 {
				t.Errorf("mounts are left: %v", m)
			}
		})
	}
}

func TestAMissingProgramIsASkip(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	img := &Image{Ref: "none", Archive: "none", Rootfs: "none"}
	for _, o := range Openers() {
		if o.Ours {
			continue
		}
		if _, err := o.Open(t.Context(), t.TempDir(), img); !errors.Is(err, measure.ErrSkip) {
			t.Errorf("%s: %v, want skipped", o.Name, err)
		}
	}
}

func TestOutpostHidesAMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	o, err := newOutpost("/proc")
	if err != nil {
		t.Skipf("SKIPPED: no mount namespace here (%v)", err)
	}
	defer o.close()
	cmd := exec.Command("/bin/sh", "-c", "test ! -e /proc/1")
	if _, err := timed(cmd, func() error { return o.start(cmd) }); err != nil {
		t.Errorf("the mount is seen there: %v", err)
	}
	if _, err := os.Stat("/proc/1"); err != nil {
		t.Errorf("the mount is gone here: %v", err)
	}
}

func TestFailedCommandSaysWhy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := command(ctx, "/bin/sh", "-c", "echo reason >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "reason") || !strings.Contains(err.Error(), "3") {
		t.Errorf("%v", err)
	}
}

func TestMountsBelow(t *testing.T) {
	const info = "22 1 8:1 / / rw - ext4 /dev/vda rw\n30 22 0:5 / /tmp/a/root rw - overlay overlay rw\n31 30 0:6 / /tmp/a/root/x rw - tmpfs tmpfs rw\n32 22 0:7 / /tmp/b rw - tmpfs tmpfs rw\n"
	if got, want := mountsBelow(info, filepath.Join("/tmp", "a")), []string{"/tmp/a/root", "/tmp/a/root/x"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
