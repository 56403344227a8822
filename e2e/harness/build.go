package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Build builds spillway from the tree at root into the file bin, with these
// flags of go build, and first the entry program that is embedded in it.
func Build(ctx context.Context, root, bin string, flags ...string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"make", "-s", "entry"},
		slices.Concat([]string{"go", "build"}, flags, []string{"-o", bin, "./cmd/spillway"}),
	} {
		build := exec.CommandContext(ctx, argv[0], argv[1:]...)
		build.Dir = root
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build with %v: %w\n%s", argv, err, out)
		}
	}
	return nil
}
