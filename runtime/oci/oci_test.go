package oci

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cgroups"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(envVictim) != "" {
		os.Exit(victim())
	}
	goleak.VerifyTestMain(m)
}

// require skips a test that needs root and an OCI runtime, unless they must be there.
func require(t testing.TB, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	if err == nil && os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SPILLWAY_REQUIRE_OCI") != "" {
		t.Fatalf("SPILLWAY_REQUIRE_OCI is set: uid %d, %v", os.Geteuid(), err)
	}
	t.Skipf("SKIPPED: needs root and %s (uid %d, %v)", program, os.Geteuid(), err)
}

// setUp returns the configuration of a driver of its own, with the test image.
func setUp(t testing.TB, program string) (Config, string) {
	t.Helper()
	require(t, program)
	name, archive := runtimetest.BoxImage(t)
	c := Config{
		Dir: filepath.Join(t.TempDir(), "oci"), Program: entrytest.Program(t), Images: unpack(t, t.TempDir(), name, archive),
		Runtime: program, Cgroup: "spillway-test",
	}
	t.Cleanup(func() { tidy(t, c) })
	return c, name
}

// tidy ends what a test that failed has left, and removes the cgroups that a
// driver keeps for the next one.
func tidy(t testing.TB, c Config) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	groups, err := cgroups.Find()
	if err != nil {
		t.Fatal(err)
	}
	if err := groups.Erase(ctx, groupOf(c.Cgroup, c.Dir)); err != nil {
		t.Errorf("cgroup %s stays: %v", c.Cgroup, err)
	}
	if left, err := groups.List(c.Cgroup); err == nil && len(left) == 0 { // else another test uses it
		_ = groups.Remove(c.Cgroup)
	}
}

func open(t testing.TB, c Config) *Driver {
	t.Helper()
	d, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

func TestConformance(t *testing.T) {
	for _, program := range []string{"crun", "runc"} {
		t.Run(program, func(t *testing.T) {
			c, image := setUp(t, program)
			dir, gpus := runtimetest.CDI(t)
			c.CDIDirs = []string{dir}
			again := c
			again.Dir = filepath.Join(t.TempDir(), "again")
			before := traces(t, c)
			t.Run("contract", func(t *testing.T) {
				runtimetest.TestDriver(t, func(t *testing.T) runtimetest.Subject {
					d := open(t, c)
					what, err := d.Probe(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					t.Log(what)
					return runtimetest.Subject{Driver: d, Image: image, GPU: gpus, Reopen: func(t *testing.T) runtime.Driver {
						next, err := Open(t.Context(), again)
						if err != nil {
							t.Fatal(err)
						}
						return next
					}}
				})
			})
			compare(t, before, traces(t, c))
			if held := c.Images.(*shelf).held; held != 0 {
				t.Errorf("layers are still held, %d times", held)
			}
		})
	}
}
