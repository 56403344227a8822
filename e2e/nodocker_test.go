package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// needOCI skips where containers cannot run without an engine, and fails instead
// where that is required.
func needOCI(t *testing.T) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "this is not root"
	}
	_, crun := exec.LookPath("crun")
	_, runc := exec.LookPath("runc")
	if crun != nil && runc != nil {
		why = "neither crun nor runc is here"
	}
	if why == "" {
		return
	}
	if os.Getenv("SPILLWAY_REQUIRE_OCI") != "" {
		t.Fatal(why + ", and SPILLWAY_REQUIRE_OCI is set")
	}
	t.Skip("SKIPPED: " + why)
}

// staticArchive builds the images of the functions that are one static program,
// without any engine.
func staticArchive(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, argv := range [][]string{
		{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "bin") + "/", "../functions/catalog/echo", "../functions/catalog/thumbnail"},
		{"go", "run", "../images/imagebuild", "-bin", filepath.Join(dir, "bin"), "-cache", filepath.Join(dir, "layers"), "-only", "static", "-out", filepath.Join(dir, "out")},
	} {
		build := exec.Command(argv[0], argv[1:]...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	return filepath.Join(dir, "out", "static.tar")
}

// TestUpWithoutDocker runs a function on a machine where no engine answers: its
// image comes from a file, and its container from crun or runc alone.
func TestUpWithoutDocker(t *testing.T) {
	needOCI(t)
	archive := staticArchive(t)
	nowhere := filepath.Join(t.TempDir(), "none.sock")
	engines := []string{"DOCKER_HOST=unix://" + nowhere, "SPILLWAY_NODE_CONTAINERD=" + nowhere}
	for _, runtime := range []string{"oci", "auto"} {
		t.Run(runtime, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			load := exec.Command(bin, "images", "load", "--runtime", runtime, "--data", data, archive)
			load.Env = append(os.Environ(), engines...)
			if out, err := load.CombinedOutput(); err != nil {
				t.Fatalf("load: %v\n%s", err, out)
			}
			srv := serverWith(t, harness.Config{Data: data, Args: []string{"--runtime", runtime}, Env: engines})
			deployCatalog(t, srv, "echo")
			task := run(t, srv, "echo", `{"a":1}`, nil)
			if task.Status != string(functions.Succeeded) || task.DeviceUsed != string(functions.CPU) {
				t.Fatalf("the task ended as %s on %q: %+v", task.Status, task.DeviceUsed, task.Failure)
			}
			var page struct{ Nodes []functions.NodeStatus }
			if err := srv.JSON(t.Context(), "GET", "/v1/nodes", nil, &page); err != nil {
				t.Fatal(err)
			}
			if len(page.Nodes) != 1 || page.Nodes[0].Driver != "oci" || page.Nodes[0].Labels[functions.LabelRuntimeWhy] == "" {
				t.Errorf("nodes: %+v", page.Nodes)
			}
			if out, err := srv.CLI(t.Context(), "doctor"); err != nil || !strings.Contains(out, "oci runs a container") || strings.Contains(out, "failed") {
				t.Errorf("doctor: %v\n%s", err, out)
			}
			if err := srv.Stop(30 * time.Second); err != nil {
				t.Errorf("stop: %v", err)
			}
			left, err := os.ReadDir(filepath.Join(data, "node", "oci", "containers"))
			if err != nil || len(left) != 0 {
				t.Errorf("containers that are left: %v, %v", left, err)
			}
		})
	}
}
