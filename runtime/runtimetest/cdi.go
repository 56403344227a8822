package runtimetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// CDI pretends that this machine has two GPUs, for a driver that takes CDI
// specifications: it writes one into a folder and returns the folder. The devices
// are /dev/null under other names.
func CDI(t testing.TB) (dir string, gpus *GPUSubject) {
	t.Helper()
	gpus = &GPUSubject{IDs: []string{"0", "1"}, BadID: "7", Look: []string{"probe"}, Seen: func(stdout string) (seen []string) {
		for line := range strings.Lines(stdout) { // the probe names every device that is not usual
			if id, ok := strings.CutPrefix(strings.TrimSpace(line), "devices: /dev/nvidia"); ok {
				seen = append(seen, id)
			}
		}
		return seen
	}}
	devices := make([]string, len(gpus.IDs))
	for i, id := range gpus.IDs {
		devices[i] = fmt.Sprintf(`{"name": %q, "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia%s", "hostPath": "/dev/null"}]}}`, id, id)
	}
	spec := fmt.Sprintf(`{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [%s]}`, strings.Join(devices, ", "))
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gpus.json"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, gpus
}
