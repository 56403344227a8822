package e2e

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions/objects/miniotest"
)

// TestDemo runs the demo as `make demo` does, on both stores: the whole main
// job on real input, with a real GPU launch that Docker really refuses.
func TestDemo(t *testing.T) {
	needDocker(t)
	for _, store := range []string{"embedded", "minio"} {
		t.Run(store, func(t *testing.T) {
			if store == "minio" {
				needMinIO(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			demo := exec.CommandContext(ctx, "go", "run", "./e2e/demo", "-bin", bin, "-store", store)
			demo.Dir = ".."
			out, err := demo.CombinedOutput()
			if err != nil {
				t.Fatalf("demo: %v\n%s", err, out)
			}
			for _, want := range []string{
				"GET /api/v1/status/workers", "thumbnail", "image/jpeg", "audio/wav", "application/pdf", "application/json",
				"attempt 2 on cpu: succeeded", "respawned on the CPU after gpu_host", "could not select device driver", "gateway  http://127.0.0.1:",
			} {
				if !strings.Contains(string(out), want) {
					t.Errorf("the demo does not show %q:\n%s", want, out)
				}
			}
		})
	}
}

// TestUpKeepsServing runs what `make up` runs: after the jobs it serves on, and
// Ctrl-C ends it cleanly.
func TestUpKeepsServing(t *testing.T) {
	needDocker(t)
	exe := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", exe, "./demo").CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v: %s", err, out)
	}
	demo := exec.Command(exe, "-bin", bin, "-keep")
	demo.Dir = ".."
	out := &logBuffer{}
	demo.Stdout, demo.Stderr = out, out
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- demo.Wait() }()
	t.Cleanup(func() { _ = demo.Process.Kill() })
	eventually(t, 2*time.Minute, "it serves on", func() bool { return strings.Contains(out.tail(), "serving until Ctrl-C") })
	url := regexp.MustCompile(`gateway  (http://\S+)`).FindStringSubmatch(out.tail())
	if url == nil {
		t.Fatalf("no URL in:\n%s", out.tail())
	}
	resp, err := http.Get(url[1] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET /readyz: %s", resp.Status)
	}
	if err := demo.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("after Ctrl-C: %v\n%s", err, out.tail())
		}
	case <-time.After(time.Minute):
		t.Error("Ctrl-C did not end it within a minute")
	}
}

// needMinIO wants the server where the demo looks for it.
func needMinIO(t *testing.T) {
	t.Helper()
	have := miniotest.Binary(t)
	want, err := filepath.Abs(filepath.Join("..", ".cache", "minio", "minio"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(want); err != nil {
		t.Skipf("the demo runs the server that `make minio` builds; there is only %s", have)
	}
}
