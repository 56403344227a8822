package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// shelf is a store of one image, unpacked to a folder.
type shelf struct {
	img   runtime.Image
	dir   string
	above []string // further layers

	mu   sync.Mutex // guards held
	held int
}

// unpack makes a store of an archive of one image with one layer.
func unpack(t testing.TB, dir, name string, archive []byte) *shelf {
	t.Helper()
	files := read(t, archive)
	var config struct {
		Config struct{ Entrypoint, Cmd, Env []string }
	}
	if err := json.Unmarshal(files["config.json"], &config); err != nil {
		t.Fatal(err)
	}
	for file, data := range read(t, files["layer.tar"]) {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return &shelf{dir: dir, img: runtime.Image{
		Names: []string{name}, ID: "sha256:1", Size: functions.Bytes(len(archive)),
		Entrypoint: config.Config.Entrypoint, Command: config.Config.Cmd, Env: config.Config.Env,
	}}
}

func read(t testing.TB, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err == nil {
			files[h.Name], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (s *shelf) Pull(ctx context.Context, image string, _ func(runtime.PullProgress)) error {
	_, err := s.Image(ctx, image)
	return err
}

func (s *shelf) Image(_ context.Context, image string) (runtime.Image, error) {
	if len(s.img.Names) == 0 || image != s.img.Names[0] {
		return runtime.Image{}, runtime.ImageMissing(image)
	}
	return s.img, nil
}

func (s *shelf) Images(context.Context) ([]runtime.Image, error) { return []runtime.Image{s.img}, nil }

func (s *shelf) RemoveImage(context.Context, string) error {
	s.img.Names = nil
	return nil
}

func (s *shelf) Layers(ctx context.Context, image string) ([]string, func(), error) {
	if _, err := s.Image(ctx, image); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
	return append([]string{s.dir}, s.above...), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held--
	}, nil
}
