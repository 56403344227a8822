package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
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
