package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/registrytest"
)

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func octal(n int) string { return fmt.Sprintf("%06o\x00 ", n) }

func saved(t testing.TB, images map[string]v1.Image) []byte {
	t.Helper()
	tags := map[name.Tag]v1.Image{}
	for ref, img := range images {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = img
	}
	var b bytes.Buffer
	if err := tarball.MultiWrite(tags, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// laidOut packs an OCI layout.
func laidOut(t testing.TB, annotations map[string]string, img v1.Image) []byte {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img, layout.WithAnnotations(annotations))
	}
	if err != nil {
		t.Fatal(err)
	}
	var files []entry
	for _, pattern := range []string{"*", "blobs/sha256/*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if data, err := os.ReadFile(f); err == nil {
				rel, _ := filepath.Rel(dir, f)
				files = append(files, file(rel, string(data)))
			}
		}
	}
	return tarOf(t, files...)
}

func TestLoad(t *testing.T) {
	a := imageOf(t, v1.Config{Cmd: []string{"a"}}, noise(t, "base", 2000), noise(t, "a", 1000))
	b := imageOf(t, v1.Config{Cmd: []string{"b"}}, noise(t, "base", 2000))
	id, err := a.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(saved(t, map[string]v1.Image{"a:1": a}))
	w.Close()
	for what, c := range map[string]struct {
		archive []byte
		names   []string
	}{
		"docker save, two images": {saved(t, map[string]v1.Image{"a:1": a, "spillway/b:2": b}), []string{"a:1", "spillway/b:2"}},
		"docker save, gzipped":    {zipped.Bytes(), []string{"a:1"}},
		"OCI, containerd's name":  {laidOut(t, map[string]string{nameContainerd: "docker.io/library/a:1", nameStandard: "1"}, a), []string{"a:1"}},
		"OCI, whole name":         {laidOut(t, map[string]string{nameStandard: "reg.test/a:1"}, a), []string{"reg.test/a:1"}},
		"OCI, no name":            {laidOut(t, map[string]string{nameStandard: "1"}, a), []string{id.String()}},
	} {
		t.Run(what, func(t *testing.T) {
			s := open(t, nil, nil)
			names, err := s.Load(t.Context(), bytes.NewReader(c.archive))
			slices.Sort(names)
			if err != nil || !slices.Equal(names, c.names) {
				t.Fatalf("Load = %q, %v; want %q", names, err, c.names)
			}
			for _, n := range names {
				mustPull(t, s, n) // present: no registry is asked
				dirs, release, err := s.Layers(t.Context(), n)
				if err != nil {
					t.Fatal(err)
				}
				release()
				if _, err := os.Stat(filepath.Join(dirs[0], "base")); err != nil {
					t.Error(err)
				}
			}
			nothingHalf(t, s)
		})
	}
}

func TestBadArchivesAreRefused(t *testing.T) {
	img := imageOf(t, v1.Config{}, noise(t, "a", 3000))
	good := saved(t, map[string]v1.Image{"a:1": img})
	table := `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l.tar"]}]`
	config := func(layer string) entry {
		return file("c.json", `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+layer+`"]}}`)
	}
	for what, archive := range map[string][]byte{
		"nothing":              nil,
		"noise":                []byte(strings.Repeat("noise", 300)),
		"cut short":            good[:len(good)/2],
		"no manifest":          tarOf(t, file("x", "x")),
		"a manifest of noise":  tarOf(t, file("manifest.json", "noise")),
		"no configuration":     tarOf(t, file("manifest.json", table)),
		"a hostile digest":     tarOf(t, file("manifest.json", table), config("sha256:../../../x"), file("l.tar", "")),
		"a layer that is gone": tarOf(t, file("manifest.json", table), config("sha256:"+strings.Repeat("a", 64))),
		"a link to a file of the machine": tarOf(t, file("manifest.json", table), link(tar.TypeSymlink, "c.json", "/etc/passwd"),
			link(tar.TypeSymlink, "l.tar", "../../../../etc/passwd")),
		"gzip of noise": {0x1f, 0x8b, 1, 2, 3},
	} {
		s := open(t, nil, nil)
		names, err := s.Load(t.Context(), bytes.NewReader(archive))
		if !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%s: Load = %q, %v; want invalid", what, names, err)
		}
		nothingHalf(t, s)
		if all, err := s.Images(t.Context()); err != nil || len(all) > 0 {
			t.Errorf("%s: images %v, %v", what, all, err)
		}
	}
}

// What Archive writes, Load reads.
func TestArchive(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	layer := noise(t, "a", 100_000)
	img := imageOf(t, v1.Config{Cmd: []string{"x"}}, layer, noise(t, "b", 10), layer)
	ref := r.Push(t, "a:1", img)
	var last Progress
	archive, err := s.Archive(t.Context(), ref, func(p Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	names, err := open(t, nil, nil).Load(t.Context(), archive)
	if err != nil || !slices.Equal(names, []string{ref}) {
		t.Fatalf("Load = %q, %v", names, err)
	}
	if err := archive.Close(); err != nil {
		t.Error(err)
	}
	if last.Layers != 3 || last.Done < 100_000 {
		t.Errorf("the last progress is %+v", last)
	}
	if archive, err = s.Archive(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil { // unread
		t.Error(err)
	}
	r.SetFaults(registrytest.Faults{Cut: -1})
	if archive, err = s.Archive(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if _, err := io.Copy(io.Discard, archive); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("reading an archive that breaks off: %v", err)
	}
	if _, err := s.Archive(t.Context(), r.Addr+"/none:1", nil); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("archive of no image: %v", err)
	}
}

// The kernel agrees with what the layers are.
func TestLayersMakeAnOverlay(t *testing.T) {
	needsRoot(t)
	s := open(t, nil, nil)
	img := imageOf(t, v1.Config{},
		tarOf(t, file("kept", "low"), file("gone", "low"), folder("opaque"), file("opaque/low", "low"), file("changed", "low")),
		tarOf(t, file(".wh.gone", ""), folder("opaque"), file("opaque/.wh..wh..opq", ""), file("opaque/high", "high"), file("changed", "high")))
	if _, err := s.Load(t.Context(), bytes.NewReader(saved(t, map[string]v1.Image{"a:1": img}))); err != nil {
		t.Fatal(err)
	}
	dirs, release, err := s.Layers(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	slices.Reverse(dirs)
	at := t.TempDir()
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(dirs, ":")); err != nil {
		if os.Getenv("SPILLWAY_REQUIRE_DOCKER") != "" {
			t.Fatalf("no overlayfs, and SPILLWAY_REQUIRE_DOCKER is set: %v", err)
		}
		t.Skipf("SKIPPED: this machine mounts no overlayfs here: %v", err)
	}
	defer func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	}()
	var all []string
	for _, path := range tree(t, at)[1:] {
		name, _, _ := strings.Cut(path[len(at)+1:], " ")
		body, _ := os.ReadFile(filepath.Join(at, name))
		all = append(all, name+" "+string(body))
	}
	if want := []string{"changed high", "kept low", "opaque ", "opaque/high high"}; !slices.Equal(all, want) {
		t.Errorf("the overlay has %q, want %q", all, want)
	}
}
