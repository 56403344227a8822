package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// deb makes a package that holds the files, each "path=content", "path->target"
// or, with a trailing slash, a folder.
func deb(t *testing.T, name string, files ...string) string {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("no dpkg-deb here")
	}
	root := t.TempDir()
	put := func(path, content string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put("DEBIAN/control", "Package: "+name+"\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n")
	for _, f := range files {
		if link, target, ok := strings.Cut(f, "->"); ok {
			put(filepath.Join(filepath.Dir(link), ".keep"), "")
			if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		path, content, _ := strings.Cut(f, "=")
		put(path, content)
	}
	if err := os.Chmod(filepath.Join(root, strings.SplitN(files[0], "=", 2)[0]), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), name+".deb")
	if msg, err := exec.Command("dpkg-deb", "--build", "--root-owner-group", root, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, msg)
	}
	return out
}

func merged(t *testing.T, links map[string]string, debs ...string) (bytes.Buffer, map[string]string) {
	t.Helper()
	var b bytes.Buffer
	if err := merge(t.Context(), &b, debs, links); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	tr := tar.NewReader(bytes.NewReader(b.Bytes()))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return b, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		if h.Mode&0o6000 != 0 || h.Uid != 0 {
			t.Errorf("%s: mode %o, owner %d", h.Name, h.Mode, h.Uid)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			files[h.Name] = "-> " + h.Linkname
		case tar.TypeReg:
			files[h.Name] = string(body)
		}
	}
}

func TestMergeUnitesPackagesBelowUsr(t *testing.T) {
	a := deb(t, "a", "bin/su=a", "lib/liba.so->liba.so.1", "lib/liba.so.1=lib", "usr/share/doc/a/copyright=mine", "usr/share/doc/a/changelog=old", "usr/share/man/man1/a.1=man")
	b := deb(t, "b", "usr/bin/b=b", "usr/bin/su=other")
	out, files := merged(t, map[string]string{"/usr/lib/libblas.so": "blas/libblas.so"}, a, b)
	want := map[string]string{
		"bin": "-> usr/bin", "lib": "-> usr/lib", "lib64": "-> usr/lib64", "sbin": "-> usr/sbin",
		"usr/bin/su": "a", "usr/bin/b": "b", "usr/lib/.keep": "", "usr/lib/liba.so": "-> liba.so.1", "usr/lib/liba.so.1": "lib",
		"usr/share/doc/a/copyright": "mine", "usr/lib/libblas.so": "-> blas/libblas.so",
	}
	if d := cmp.Diff(want, files); d != "" {
		t.Error(d)
	}
	again, _ := merged(t, map[string]string{"/usr/lib/libblas.so": "blas/libblas.so"}, a, b)
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same packages gave another layer")
	}
}

func TestMergeEndsOnABrokenPackage(t *testing.T) {
	good := deb(t, "a", "usr/bin/a=a")
	broken := filepath.Join(t.TempDir(), "broken.deb")
	if err := os.WriteFile(broken, []byte("no package"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := merge(t.Context(), io.Discard, []string{good, broken, good, good, good, good, good, good}, nil)
	if err == nil || !strings.Contains(err.Error(), "broken.deb") {
		t.Errorf("got %v, want an error that names broken.deb", err)
	}
}

func TestMergeEndsWhenNobodyWrites(t *testing.T) {
	var many []string
	for range 20 {
		many = append(many, deb(t, "a", "usr/bin/a=a"))
	}
	full := errors.New("disk full")
	if err := merge(t.Context(), failing{full}, many, nil); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := merge(ctx, io.Discard, many, nil); err == nil {
		t.Error("a cancelled merge succeeded")
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestPlace(t *testing.T) {
	for in, want := range map[string]string{
		"./": "", "./bin/": "", "./lib64/": "", "./bin/sh": "usr/bin/sh", "./lib/x86_64-linux-gnu/libc.so.6": "usr/lib/x86_64-linux-gnu/libc.so.6",
		"./usr/lib/x": "usr/lib/x", "./library/x": "library/x", "../../etc/x": "etc/x", "/etc/./y": "etc/y",
	} {
		if got := place(in); got != want {
			t.Errorf("place(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseURIs(t *testing.T) {
	got, err := parseURIs("'http://d/pool/z.deb' zlib1g_1%3a1.2_amd64.deb 86700 SHA256:aa\nReading...\n'http://d/a.deb' adduser_3_all.deb 1 SHA256:bb\n")
	if d := cmp.Diff([]string{"adduser", "zlib1g"}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	for _, bad := range []string{"'http://d/a.deb'\n", "'http://d/a.deb' nounderscore 5\n"} {
		if _, err := parseURIs(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
