package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

func TestDeepFoldersAreCountedOnce(t *testing.T) {
	for _, depth := range []int{quickDepth - 1, quickDepth + 2} {
		dir := t.TempDir()
		deep := filepath.Join(dir, strings.Repeat("d/", depth))
		if err := os.MkdirAll(deep, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{filepath.Join(dir, "a"), filepath.Join(deep, "z")} {
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(name, int64(functions.MiB)); err != nil {
				t.Fatal(err)
			}
		}
		if size, entries, err := diskUsage(dir); err != nil || size != 2*functions.MiB || entries != depth+2 {
			t.Errorf("%d folders deep: %s in %d entries, %v; want 2MiB in %d", depth, size, entries, err, depth+2)
		}
	}
}
