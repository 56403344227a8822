package images_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images"
)

// shelf is an engine that keeps the labels of what it loaded.
type shelf struct {
	mu     sync.Mutex // guards the fields below
	labels map[string]string
	loads  int
	fail   error
}

func (s *shelf) Has(_ context.Context, ref, label, value string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.labels[ref+" "+label] == value, nil
}

func (s *shelf) Load(_ context.Context, write func(io.Writer) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	m, err := tarball.LoadManifest(open)
	if err != nil {
		return err
	}
	s.loads++
	for _, d := range m {
		tag, err := name.NewTag(d.RepoTags[0])
		if err != nil {
			return err
		}
		img, err := tarball.Image(open, &tag)
		if err != nil {
			return err
		}
		cf, err := img.ConfigFile()
		if err != nil {
			return err
		}
		for k, v := range cf.Config.Labels {
			s.labels[d.RepoTags[0]+" "+k] = v
		}
	}
	return nil
}

func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("program "+n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuildCatalogMakesOnlyWhatChanged(t *testing.T) {
	engine := &shelf{labels: map[string]string{}}
	c := images.CatalogConfig{Bin: programs(t, "echo", "thumbnail"), Cache: t.TempDir(), Engine: engine, Only: "static", Log: slog.New(slog.DiscardHandler)}
	for _, step := range []struct {
		name  string
		do    func()
		fresh bool
		loads int
	}{
		{"the first time", func() {}, true, 1},
		{"again", func() {}, false, 1},
		{"after a program changed", func() {
			if err := os.WriteFile(filepath.Join(c.Bin, "echo"), []byte("new"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, true, 2},
		{"again", func() {}, false, 2},
	} {
		step.do()
		built, err := images.BuildCatalog(t.Context(), c)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if len(built) != 2 || built[0].Ref != "spillway/echo:latest" || built[1].Ref != "spillway/thumbnail:latest" {
			t.Fatalf("%s: built %+v", step.name, built)
		}
		if built[0].Fresh != step.fresh || engine.loads != step.loads {
			t.Errorf("%s: fresh %t after %d loads, want %t after %d", step.name, built[0].Fresh, engine.loads, step.fresh, step.loads)
		}
	}
}

func TestBuildCatalogFails(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	down := errors.New("engine is down")
	for name, tc := range map[string]struct {
		c    images.CatalogConfig
		want error
	}{
		"without its programs": {images.CatalogConfig{Bin: t.TempDir(), Only: "static", Out: t.TempDir(), Log: log}, functions.ErrNotFound},
		"for an unknown group": {images.CatalogConfig{Only: "nothing", Log: log}, functions.ErrInvalid},
		"when loading fails":   {images.CatalogConfig{Bin: programs(t, "echo", "thumbnail"), Only: "static", Engine: &shelf{fail: down}, Log: log}, down},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := images.BuildCatalog(t.Context(), tc.c); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestBuildCatalogWritesArchivesWithoutAnEngine(t *testing.T) {
	out := t.TempDir()
	c := images.CatalogConfig{Bin: programs(t, "echo", "thumbnail"), Out: out, Only: "static", Log: slog.New(slog.DiscardHandler)}
	if _, err := images.BuildCatalog(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"spillway/echo:latest", "spillway/thumbnail:latest"} {
		if _, err := openArchive(filepath.Join(out, "static.tar"), ref); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(out, ".part-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestDockerRunsAnImageMadeWithoutIt(t *testing.T) {
	if err := exec.Command("docker", "version").Run(); err != nil {
		t.Skip("no Docker engine answers here")
	}
	src := filepath.Join(t.TempDir(), "hello.go")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() { println(\"made without docker\") }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "hello")
	cmd := exec.Command("go", "build", "-o", bin, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	const ref = "spillway/imagetest:latest"
	img := build(t, images.Config{
		Ref: ref, Entrypoint: []string{"/hello"}, Labels: map[string]string{"made": "here"},
		Files: []images.File{{Path: "/hello", Source: bin, Mode: 0o755}},
	})
	engine := images.DockerCLI{}
	if err := engine.Load(t.Context(), func(w io.Writer) error { return images.WriteArchives(w, map[string]v1.Image{ref: img}) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("docker", "image", "rm", ref).CombinedOutput(); err != nil {
			t.Errorf("remove the image: %v\n%s", err, out)
		}
	})
	for value, want := range map[string]bool{"here": true, "there": false} {
		if got, err := engine.Has(t.Context(), ref, "made", value); err != nil || got != want {
			t.Errorf("has label made=%s: %t (%v), want %t", value, got, err, want)
		}
	}
	out, err := exec.Command("docker", "run", "--rm", "--network", "none", "--read-only", ref).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "made without docker" {
		t.Errorf("run: %v, %q", err, out)
	}
	broken := errors.New("broken")
	if err := engine.Load(t.Context(), func(io.Writer) error { return broken }); err == nil {
		t.Error("an archive that broke off was loaded")
	}
}
