// Command pack makes the images of the tests on a GPU machine, as one archive
// that `spillway images load` reads: the program speech on Debian's C library and
// OpenBLAS, and the same with an environment that asks for every GPU.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spillway/spillway/images"
	"github.com/spillway/spillway/images/debian"
)

// packages are what speech is linked with or loads. The rest of Debian is not
// needed, and the package of the C library brings its loader.
var packages = debian.Config{Packages: []string{"libc6", "libgomp1", "libopenblas0-openmp"}, Links: map[string]string{
	"/usr/lib/x86_64-linux-gnu/libopenblas.so.0": "openblas-openmp/libopenblas.so.0",
}}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	program := flag.String("program", "", "the program speech")
	cache := flag.String("cache", "", "folder where the layer of packages is kept")
	out := flag.String("out", "", "archive to write")
	flag.Parse()
	err := pack(ctx, *program, *cache, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(ctx context.Context, program, cache, out string) error {
	layer := filepath.Join(cache, "speech-packages.tar")
	if _, err := os.Stat(layer); errors.Is(err, fs.ErrNotExist) {
		if err := writePackages(ctx, layer); err != nil {
			return err
		}
	}
	byRef := map[string]v1.Image{}
	for ref, env := range map[string][]string{
		"spillway/speech:latest":  nil,
		"spillway/hostile:latest": {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all", "CUDA_VISIBLE_DEVICES=0", "TASK_DEVICE=gpu"},
	} {
		img, err := images.Build(images.Config{
			Ref: ref, Env: env, Entrypoint: []string{"/speech"},
			Tar:   func() (io.ReadCloser, error) { return os.Open(layer) },
			Files: []images.File{{Path: "/speech", Source: program, Mode: 0o755}},
		})
		if err != nil {
			return err
		}
		byRef[ref] = img
	}
	return write(out, func(w io.Writer) error { return images.WriteArchives(w, byRef) })
}

func writePackages(ctx context.Context, layer string) error {
	if err := os.MkdirAll(filepath.Dir(layer), 0o755); err != nil {
		return err
	}
	lists, err := os.MkdirTemp("", "spillway-apt-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(lists)
	source, err := debian.Open(ctx, lists, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return write(layer, func(w io.Writer) error { return source.WriteLayer(ctx, packages, w) })
}

// write makes a file that is there whole or not at all.
func write(path string, fill func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := fill(f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
