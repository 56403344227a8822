package oci

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// envVictim makes the test program an agent that is there to be killed; it holds
// orders as JSON.
const envVictim = "SPILLWAY_TEST_OCI_VICTIM"

type orders struct {
	Config Config
	Image  runtime.Image
	Layer  string
	Churn  bool // start and remove containers for ever; else start one and wait
}

// victim is an agent. It prints the containers that it has started.
func victim() int {
	ctx := context.Background()
	var o orders
	if err := json.Unmarshal([]byte(os.Getenv(envVictim)), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o.Config.Images = &shelf{img: o.Image, dir: o.Layer}
	d, err := Open(ctx, o.Config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	launch := func(args ...string) (runtime.ID, error) {
		id, err := d.Create(ctx, runtime.Spec{Image: o.Image.Names[0], Command: args, Memory: 32 * functions.MiB, Labels: map[string]string{runtime.LabelNode: "n"}})
		if err != nil {
			return "", err
		}
		return id, d.Start(ctx, id, runtime.Streams{Stdout: os.Stderr})
	}
	if !o.Churn {
		id, err := launch("trap", "5")
		fmt.Println(id, err)
		time.Sleep(time.Hour)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				id, err := launch([]string{"echo", "wait"}[rand.IntN(2)])
				if err != nil {
					fmt.Println(err)
					return
				}
				fmt.Println(id)
				if rand.IntN(3) > 0 {
					_ = d.Remove(ctx, id) // whatever comes of it: this process is about to be killed
				}
			}
		})
	}
	all.Wait()
	return 1
}

// agent starts a victim and returns it with what it prints.
func agent(t *testing.T, c Config, churn bool) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	s := c.Images.(*shelf)
	c.Images = nil
	text, err := json.Marshal(orders{Config: c, Image: s.img, Layer: s.dir, Churn: churn})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), envVictim+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	return cmd, bufio.NewScanner(out)
}

// kill is kill -9.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func started(t *testing.T, lines *bufio.Scanner) runtime.ID {
	t.Helper()
	if !lines.Scan() {
		t.Fatal("the agent ended by itself")
	}
	var id, failure string
	if n, _ := fmt.Sscan(lines.Text(), &id, &failure); n < 2 || failure != "<nil>" {
		t.Fatalf("the agent says %q", lines.Text())
	}
	return runtime.ID(id)
}

func TestContainerOutlivesItsAgent(t *testing.T) {
	for _, program := range []string{"crun", "runc"} {
		t.Run(program, func(t *testing.T) {
			c, image := setUp(t, program)
			before := traces(t, c)
			first, lines := agent(t, c, false)
			id := started(t, lines)
			kill(first)

			t.Run("adopted", func(t *testing.T) {
				d := open(t, c)
				infos, err := d.List(t.Context(), map[string]string{runtime.LabelNode: "n"})
				if err != nil || len(infos) != 1 || infos[0].ID != id || infos[0].State != runtime.Up {
					t.Fatalf("List: %+v, %v, want it up", infos, err)
				}
				if err := d.RemoveImage(t.Context(), image); !errors.Is(err, functions.ErrConflict) {
					t.Errorf("RemoveImage: %v, want a conflict", err)
				}
				var stdout runtimetest.Pane
				if err := d.Attach(t.Context(), id, runtime.Streams{Stdout: &stdout}); err != nil {
					t.Fatal(err)
				}
				for stdout.String() != "ready\n" && functions.Sleep(t.Context(), 5*time.Millisecond) {
				}
				if usage, err := d.Usage(t.Context(), id); err != nil || usage.Memory == 0 {
					t.Errorf("Usage: %+v, %v", usage, err)
				}
				if err := d.Stop(t.Context(), id, 30*time.Second); err != nil {
					t.Fatal(err)
				}
				exit, err := d.Wait(t.Context(), id)
				if err != nil || exit.Code != 5 || exit.StartedAt.IsZero() {
					t.Errorf("Wait: %+v, %v, want 5", exit, err)
				}
				if got := stdout.String(); got != "ready\nterminated\n" {
					t.Errorf("output %q", got)
				}
			})
			t.Run("adopted after its exit", func(t *testing.T) {
				d := open(t, c)
				if exit, err := d.Wait(t.Context(), id); err != nil || exit.Code != 5 {
					t.Errorf("Wait: %+v, %v, want 5", exit, err)
				}
				if err := d.Remove(t.Context(), id); err != nil {
					t.Error(err)
				}
			})
			compare(t, before, traces(t, c))
		})
	}
}

func TestMonitorIsKilled(t *testing.T) {
	c, image := setUp(t, "crun")
	before := traces(t, c)
	t.Run("driver", func(t *testing.T) {
		d := open(t, c)
		id, err := d.Create(t.Context(), runtime.Spec{Image: image, Command: []string{"deaf"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Start(t.Context(), id, runtime.Streams{}); err != nil {
			t.Fatal(err)
		}
		if err := d.containers[id].watch.child.Kill(); err != nil {
			t.Fatal(err)
		}
		exit, err := d.Wait(t.Context(), id)
		if err != nil || exit.Code != 137 || exit.FinishedAt.Before(exit.StartedAt) {
			t.Errorf("Wait: %+v, %v, want 137", exit, err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.cgroups.Kill(over, d.containers[id].group); err != nil { // without time for any to end
			t.Errorf("something of it still runs: %v", err)
		}
		if err := d.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	})
	compare(t, before, traces(t, c))
}

// Whatever an agent was doing when it was killed, the next one has nothing but
// whole containers, and can remove them all.
func TestNothingIsLeftAfterKills(t *testing.T) {
	for _, program := range []string{"crun", "runc"} {
		t.Run(program, func(t *testing.T) {
			c, _ := setUp(t, program)
			before := traces(t, c)
			for round := range 6 {
				cmd, lines := agent(t, c, true)
				for range 1 + rand.IntN(8) {
					if !lines.Scan() {
						t.Fatal("the agent ended by itself")
					}
				}
				functions.Sleep(t.Context(), time.Duration(rand.IntN(60))*time.Millisecond)
				kill(cmd)
				t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) { clear(t, open(t, c)) })
				if compare(t, before, traces(t, c)); t.Failed() {
					return
				}
			}
		})
	}
}

// clear removes every container, and checks that each one was known as a whole.
func clear(t *testing.T, d *Driver) {
	infos, err := d.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if info.Labels[runtime.LabelNode] != "n" {
			t.Errorf("without its labels: %+v", info)
		}
		if err := d.Remove(t.Context(), info.ID); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	if left, err := d.List(t.Context(), nil); err != nil || len(left) > 0 {
		t.Errorf("List: %+v, %v", left, err)
	}
}

func TestTwoDriversOfOneFolder(t *testing.T) {
	c, _ := setUp(t, "crun")
	open(t, c)
	if _, err := Open(t.Context(), c); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("Open: %v, want a conflict", err)
	}
}

// A runtime that does not come back is given up, and killed with its container.
func TestHungLaunch(t *testing.T) {
	c, image := setUp(t, "crun")
	before := traces(t, c)
	script := filepath.Join(t.TempDir(), "hangs")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsleep 1000 &\nwait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Run("driver", func(t *testing.T) {
		d := open(t, c)
		d.picked = &ociRuntime{path: script}
		id, err := d.Create(t.Context(), runtime.Spec{Image: image})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		err = d.Start(ctx, id, runtime.Streams{})
		var launch *runtime.LaunchError
		if !errors.As(err, &launch) || !launch.Hung {
			t.Errorf("Start: %v, want a LaunchError that is hung", err)
		}
		if err := d.Stop(t.Context(), id, 0); err != nil {
			t.Error(err)
		}
		if infos, err := d.List(t.Context(), nil); err != nil || len(infos) != 1 || infos[0].State != runtime.Created {
			t.Errorf("List: %+v, %v, want one that never ran", infos, err)
		}
		if err := d.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	})
	compare(t, before, traces(t, c))
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if text, err := os.ReadFile(p); err == nil && bytes.Contains(text, []byte(script)) {
			t.Errorf("still runs: %q", text)
		}
	}
}
