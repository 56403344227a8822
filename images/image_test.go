package images_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images"
)

const ref = "spillway/test:latest"

func program(t *testing.T, body string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func build(t *testing.T, c images.Config) v1.Image {
	t.Helper()
	if c.Ref == "" {
		c.Ref = ref
	}
	img, err := images.Build(c)
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	return img
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := images.Digest(img)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// entries reads the top layer back.
func entries(t *testing.T, img v1.Image) (list []string, content map[string]string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[len(layers)-1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content = map[string]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return list, content
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %d:%d, time %v; want root and the epoch", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		list = append(list, fs.FileMode(h.Mode & 0o777).String()[1:]+" "+h.Name)
		if h.Typeflag == tar.TypeReg {
			content[h.Name] = string(body)
		}
	}
}

func TestBuildPutsFilesWithModesBelowTheirFolders(t *testing.T) {
	img := build(t, images.Config{
		Files: []images.File{
			{Path: "/opt/app/run", Source: program(t, "#!bin"), Mode: 0o755},
			{Path: "/etc/passwd", Content: []byte("root")},
		},
		Entrypoint: []string{"/opt/app/run"}, Env: []string{"A=b"}, Labels: map[string]string{"l": "v"},
	})
	list, content := entries(t, img)
	want := []string{"rwxr-xr-x etc/", "rwxr-xr-x opt/", "rwxr-xr-x opt/app/", "rwxrwxrwx tmp/", "rw-r--r-- etc/passwd", "rwxr-xr-x opt/app/run"}
	if d := cmp.Diff(want, list); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"etc/passwd": "root", "opt/app/run": "#!bin"}, content); d != "" {
		t.Error(d)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if cf.Config.User != "65532:65532" || cf.OS != "linux" || cf.Config.Entrypoint[0] != "/opt/app/run" || cf.Config.Env[0] != "A=b" || cf.Config.Labels["l"] != "v" {
		t.Errorf("configuration: %+v on %s", cf.Config, cf.OS)
	}
	if err := validate.Image(img, validate.Fast); err != nil {
		t.Error(err)
	}
}

func TestSameInputGivesSameImageWhateverTheOrderOrTheMachine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}`), 1, 6, rapid.ID).Draw(rt, "names")
		var files []images.File
		for _, n := range names {
			files = append(files, images.File{Path: "/f/" + n, Content: []byte(n)})
		}
		other := rapid.Permutation(files).Draw(rt, "other order")
		a, b := build(t, images.Config{Files: files}), build(t, images.Config{Files: other})
		if digest(t, a) != digest(t, b) {
			rt.Fatalf("order of %v changed the image", names)
		}
	})
	one, two := program(t, "same"), program(t, "same")
	if err := os.Chmod(two, 0o777); err != nil {
		t.Fatal(err)
	}
	file := func(src string) []images.File { return []images.File{{Path: "/run", Source: src, Mode: 0o755}} }
	if digest(t, build(t, images.Config{Files: file(one)})) != digest(t, build(t, images.Config{Files: file(two)})) {
		t.Error("where the source lies, or its mode, changed the image")
	}
	if digest(t, build(t, images.Config{Files: file(one)})) == digest(t, build(t, images.Config{Files: file(program(t, "else"))})) {
		t.Error("other content gave the same image")
	}
}

func TestArchiveLoadsBackAndIsABaseForMore(t *testing.T) {
	img := build(t, images.Config{Files: []images.File{{Path: "/run", Content: []byte("x")}}, Env: []string{"A=1"}, User: "7:7"})
	file := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := images.WriteArchives(f, map[string]v1.Image{ref: img}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	back, err := openArchive(file, ref)
	if err != nil {
		t.Fatal(err)
	}
	wantID, _ := img.ConfigName()
	gotID, err := back.ConfigName()
	if err != nil || gotID != wantID {
		t.Errorf("image id %v (%v), want %v", gotID, err, wantID)
	}
	more := build(t, images.Config{Base: back, Files: []images.File{{Path: "/more", Content: []byte("y")}}, Env: []string{"B=2"}})
	layers, err := more.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("%d layers (%v), want 2", len(layers), err)
	}
	cf, err := more.ConfigFile()
	if err != nil || strings.Join(cf.Config.Env, " ") != "A=1 B=2" {
		t.Errorf("variables %v (%v), want the base's and ours", cf.Config.Env, err)
	}
	if err := validate.Image(more, validate.Fast); err != nil {
		t.Error(err)
	}
}

// openArchive reads one image of an archive.
func openArchive(file, ref string) (v1.Image, error) {
	tag, err := name.NewTag(ref)
	if err != nil {
		return nil, err
	}
	return tarball.ImageFromPath(file, &tag)
}

func TestBuildRefuses(t *testing.T) {
	one := images.File{Path: "/run", Content: []byte("x")}
	for name, c := range map[string]images.Config{
		"an upper-case reference":     {Ref: "Spillway/Echo"},
		"an empty reference":          {Ref: ""},
		"a reference with a space":    {Ref: "a b"},
		"a reference by digest":       {Ref: "a@sha256:" + strings.Repeat("0", 64)},
		"a long reference":            {Ref: strings.Repeat("a", 300)},
		"a relative path":             {Ref: ref, Files: []images.File{{Path: "run"}}},
		"a path that climbs":          {Ref: ref, Files: []images.File{{Path: "/a/../../run"}}},
		"the root":                    {Ref: ref, Files: []images.File{{Path: "/"}}},
		"a zero byte":                 {Ref: ref, Files: []images.File{{Path: "/a\x00b"}}},
		"a file twice":                {Ref: ref, Files: []images.File{one, one}},
		"a file that is a folder too": {Ref: ref, Files: []images.File{one, {Path: "/run/x"}}},
		"a setuid file":               {Ref: ref, Files: []images.File{{Path: "/su", Mode: 0o755 | fs.ModeSetuid}}},
		"a source that is not there":  {Ref: ref, Files: []images.File{{Path: "/run", Source: "/nowhere/at/all"}}},
		"a source that is a folder":   {Ref: ref, Files: []images.File{{Path: "/run", Source: os.TempDir()}}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := images.Build(c); !errors.Is(err, functions.ErrInvalid) {
				t.Errorf("got %v, want invalid", err)
			}
		})
	}
	if err := images.WriteArchives(io.Discard, map[string]v1.Image{"Bad Ref": build(t, images.Config{Files: []images.File{one}})}); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("archive under a bad name: %v, want invalid", err)
	}
}

func TestLowerLayerLiesUnderTheFiles(t *testing.T) {
	var lower bytes.Buffer
	tw := tar.NewWriter(&lower)
	if err := tw.WriteHeader(&tar.Header{Name: "usr/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(lower.Bytes())), nil }
	img := build(t, images.Config{Tar: open, Files: []images.File{{Path: "/run", Content: []byte("x")}}})
	layers, err := img.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("%d layers (%v), want 2", len(layers), err)
	}
	if size, _ := layers[0].Size(); size != int64(lower.Len()) {
		t.Errorf("lower layer has %d bytes, want %d", size, lower.Len())
	}
	broken := errors.New("broken")
	if _, err := images.Build(images.Config{Ref: ref, Tar: func() (io.ReadCloser, error) { return nil, broken }}); !errors.Is(err, broken) {
		t.Errorf("got %v, want the opener's error", err)
	}
}
