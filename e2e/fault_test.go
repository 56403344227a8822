package e2e

import (
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/runtime/docker/dockertest"
)

// TestDockerStopsUnderTasks stops the engine while a task runs on it and another
// waits: nothing is lost, and both end once it is back.
func TestDockerStopsUnderTasks(t *testing.T) {
	needShell(t, "")
	engine := dockertest.Start(t, dockertest.Config{})
	needShell(t, engine.Host)
	srv := server(t, "--docker-host", engine.Host)
	deploySpec(t, srv, shell("slow", "sleep 4; echo done", "concurrency: 1"))
	first, err := srv.Submit(t.Context(), "slow", `{}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := srv.Submit(t.Context(), "slow", `{}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the first runs", func() bool {
		task, err := srv.Task(t.Context(), first)
		return err == nil && task.Status == "running"
	})
	engine.Crash()
	eventually(t, time.Minute, "the node says that the engine is away", func() bool {
		var page struct{ Nodes []functions.NodeStatus }
		err := srv.JSON(t.Context(), "GET", "/v1/nodes", nil, &page)
		return err == nil && len(page.Nodes) == 1 && !page.Nodes[0].Ready && page.Nodes[0].Reason != ""
	})
	engine.Restart()
	for _, id := range []functions.TaskID{first, second} {
		task, err := srv.WaitTask(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if task.Status != string(functions.Succeeded) {
			t.Errorf("task ended as %s: %+v, attempts %+v", task.Status, task.Failure, task.Attempts)
		}
	}
}

// TestStoreUnreachable kills MinIO under an accepted upload: the task waits with
// the cause on record, and ends once the store is back.
func TestStoreUnreachable(t *testing.T) {
	needShell(t, "")
	at := miniotest.Options{Addr: miniotest.FreeAddr(t), Dir: t.TempDir()}
	store := miniotest.Start(t, at)
	srv := serverWith(t, harness.Config{
		Args: []string{"--store-endpoint", store.Endpoint, "--store-access-key", miniotest.AccessKey},
		Env:  []string{"SPILLWAY_STORE_SECRET_KEY=" + miniotest.SecretKey},
	})
	deploySpec(t, srv, shell("size", "sleep 6; cat /task/in/* > /task/out/copy"))
	id, err := srv.Upload(t.Context(), "size", "a.txt", "text/plain", []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the task runs", func() bool {
		task, err := srv.Task(t.Context(), id)
		return err == nil && task.Status == "running"
	})
	store.Kill()
	pause(t, 8*time.Second) // the task ends while there is nowhere to put its output
	if task, err := srv.Task(t.Context(), id); err != nil || task.Ended() {
		t.Fatalf("without a store the task is %s (err %v), want it kept", task.Status, err)
	}
	miniotest.Start(t, at)
	task, err := srv.WaitTask(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if task.Status != string(functions.Succeeded) || len(task.Outputs) != 1 {
		t.Fatalf("ended as %s with outputs %+v: %+v", task.Status, task.Outputs, task.Failure)
	}
}
