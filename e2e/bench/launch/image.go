package launch

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spillway/spillway/images"
)

// box is the program of the image: a static one that knows how to exit.
const box = "github.com/spillway/spillway/runtime/runtimetest/testdata/box"

// Image is what every way launches: /box exit 0, and nothing else in it.
type Image struct {
	Ref     string // that no other run uses
	Archive string // file, as docker load takes it
	Rootfs  string // folder, for runtimes without images
}

// Entrypoint of the image.
var Entrypoint = []string{"/box", "exit", "0"}

// BuildImage compiles the program and packs it below dir.
func BuildImage(ctx context.Context, dir string) (*Image, error) {
	img := &Image{
		Ref:     "docker.io/library/spillway-bench-box:" + strings.ToLower(rand.Text()[:12]),
		Archive: filepath.Join(dir, "box.tar"), Rootfs: filepath.Join(dir, "rootfs"),
	}
	for _, d := range []string{"proc", "dev", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(img.Rootfs, d), 0o755); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(img.Rootfs, "box")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, box)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the image's program: %w: %s", err, out)
	}
	built, err := images.Build(images.Config{
		Ref: img.Ref, Files: []images.File{{Path: "/box", Mode: 0o755, Source: file}}, Entrypoint: Entrypoint,
	})
	if err != nil {
		return nil, fmt.Errorf("build the image: %w", err)
	}
	to, err := os.Create(img.Archive)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	if err := images.WriteArchives(to, map[string]v1.Image{img.Ref: built}); err != nil {
		return nil, err
	}
	return img, to.Close()
}
