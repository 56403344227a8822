package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// TestPowerCut keeps the data folder on a file system of its own, kills the
// process, and at once copies the disk beneath: what the kernel had not written
// back is gone, as after a power cut. On the copy every accepted task is there
// and ends once.
func TestPowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	dir := t.TempDir()
	image, copied := filepath.Join(dir, "disk.img"), filepath.Join(dir, "copy.img")
	if err := exec.Command("truncate", "-s", "512M", image).Run(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs: %v: %s", err, out)
	}
	disk := mount(t, image)
	ports, err := harness.FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	srv := serverWith(t, harness.Config{Data: filepath.Join(disk, "data"), Args: []string{"--runtime", "simulated", "--disk-floor", "16MiB"}, Ports: ports})
	deploySpec(t, srv, "name: echo\nimage: spillway/echo:latest\nlimits: {cpus: 0.01, memory: 6MiB}\n")

	accepted := &ledger{byKey: map[string]functions.TaskID{}}
	load, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	const clients = 8
	for c := range clients {
		wg.Go(func() { submitFast(load, srv, c, accepted) })
	}
	pause(t, time.Second)
	srv.Kill()
	// From here the copy races with the kernel's write-back: every byte that the
	// copy misses is one that a real cut would have lost.
	if out, err := exec.Command("cp", "--sparse=always", image, copied).CombinedOutput(); err != nil {
		t.Fatalf("copy the disk: %v: %s", err, out)
	}
	stop()
	wg.Wait()

	second := mount(t, copied)
	again := serverWith(t, harness.Config{Data: filepath.Join(second, "data"), Args: []string{"--runtime", "simulated", "--disk-floor", "16MiB"}, Ports: ports})
	accepted.check(t, again, clients)
}

// mount mounts an ext4 image until the test ends.
func mount(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("no loop device to mount: %v: %s", err, bytes.TrimSpace(out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// submitFast submits with hardly a pause until ctx ends or the server is gone.
func submitFast(ctx context.Context, srv *harness.Server, client int, l *ledger) {
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("p%d-%d", client, n)
		id, err := srv.Submit(ctx, "echo", fmt.Sprintf(`{"key":%q,"sleep_ms":1}`, key), nil)
		if err != nil {
			return
		}
		l.mu.Lock()
		l.byKey[key] = id
		l.mu.Unlock()
		wait(ctx, 10*time.Millisecond)
	}
}

// TestDiskFull gives the node a disk that is too small for an input: the task
// says so, and runs once there is room.
func TestDiskFull(t *testing.T) {
	needShell(t, "")
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	// The engine and the database live there too, so that this is the whole
	// data folder of a small machine.
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=420m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no tmpfs to mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	srv := serverWith(t, harness.Config{Data: filepath.Join(dir, "data"), Args: []string{"--disk-floor", "64MiB"}})
	deploySpec(t, srv, shell("size", "wc -c /task/in/*"))
	ballast := filepath.Join(dir, "ballast")
	if out, err := exec.Command("dd", "if=/dev/zero", "of="+ballast, "bs=1M", "count=375").CombinedOutput(); err != nil {
		t.Fatalf("fill the disk: %v: %s", err, out)
	}
	eventually(t, time.Minute, "the node says that its disk is full", func() bool {
		var page struct{ Nodes []functions.NodeStatus }
		err := srv.JSON(t.Context(), http.MethodGet, "/v1/nodes", nil, &page)
		return err == nil && len(page.Nodes) == 1 && !page.Nodes[0].Ready && strings.Contains(page.Nodes[0].Reason, "disk")
	})
	id, err := srv.Upload(t.Context(), "size", "big.bin", "application/octet-stream", make([]byte, 20<<20))
	if err != nil {
		t.Fatalf("upload: %v", err)
	}
	eventually(t, time.Minute, "the task waits and says why", func() bool {
		task, err := srv.Task(t.Context(), id)
		return err == nil && task.Waiting != nil && task.Waiting.Code == functions.WaitNoNode && strings.Contains(task.Waiting.Reason, "disk")
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the task runs once there is room", func() bool {
		task, err := srv.Task(t.Context(), id)
		return err == nil && task.Status == string(functions.Succeeded)
	})
}

// TestEveryWaitIsExplained asks for what cannot run now.
func TestEveryWaitIsExplained(t *testing.T) {
	srv := server(t, "--runtime", "simulated", "--cpus", "1")
	deploySpec(t, srv, "name: gpuonly\nimage: x\ndevice: required\n")
	deploySpec(t, srv, "name: huge\nimage: x\nlimits: {memory: 4TiB}\n")
	deploySpec(t, srv, "name: capped\nimage: x\nconcurrency: 1\nlimits: {cpus: 0.1}\n")
	deploySpec(t, srv, "name: short\nimage: x\nmax_queue: 1\ndevice: required\n")
	for fn, code := range map[string]functions.WaitCode{"gpuonly": functions.WaitNoGPUNode, "huge": functions.WaitTooBig, "capped": functions.WaitConcurrency} {
		event := `{"sleep_ms":60000}`
		id, err := srv.Submit(t.Context(), fn, event, nil)
		if err != nil {
			t.Fatal(err)
		}
		if fn == "capped" {
			eventually(t, time.Minute, "the first runs", func() bool {
				task, err := srv.Task(t.Context(), id)
				return err == nil && len(task.Attempts) == 1
			})
			if id, err = srv.Submit(t.Context(), fn, event, nil); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, time.Minute, fn+" waits with code "+string(code), func() bool {
			task, err := srv.Task(t.Context(), id)
			return err == nil && task.Waiting != nil && task.Waiting.Code == code && task.Waiting.Reason != ""
		})
		if err := srv.JSON(t.Context(), http.MethodPost, "/v1/tasks/"+string(id)+"/cancel", nil, nil); err != nil {
			t.Errorf("cancel: %v", err)
		}
		eventually(t, time.Minute, fn+" is canceled", func() bool {
			task, err := srv.Task(t.Context(), id)
			return err == nil && task.Status == string(functions.Canceled)
		})
	}
	if _, err := srv.Submit(t.Context(), "short", `{}`, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the second is refused with 429 and Retry-After", func() bool {
		status, header, _, err := srv.Call(t.Context(), http.MethodPost, "/async-function/short", map[string]string{"Content-Type": "application/json"}, strings.NewReader(`{}`))
		var p *harness.Problem
		return errors.As(err, &p) && status == 429 && header.Get("Retry-After") != "" && p.Code == "queue_full"
	})
}
