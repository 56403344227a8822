package store

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
)

// entry is one entry of a layer.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}, body}
}

func folder(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func link(kind byte, name, to string) entry {
	return entry{Header: tar.Header{Typeflag: kind, Name: name, Linkname: to}}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// needsRoot skips a test that only root can pass: layers have files of others.
func needsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SPILLWAY_REQUIRE_DOCKER") != "" {
			t.Fatal("not root, and SPILLWAY_REQUIRE_DOCKER is set")
		}
		t.Skip("SKIPPED: only root unpacks layers")
	}
}

func free(functions.Bytes) error { return nil }

func lstat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}

func xattr(path, attr string) string {
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, attr, buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}

func TestUnpackKeepsWhatALayerSays(t *testing.T) {
	needsRoot(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	at := time.Unix(1_000_000_000, 123_000_000)
	su := file("bin/su", "su")
	su.Mode, su.Uid, su.Gid, su.ModTime = 0o6755, 1000, 1001, at
	su.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.note": "kept"}
	bin := folder("bin/")
	bin.Mode, bin.ModTime = 0o1711, at
	su.Format, bin.Format = tar.FormatPAX, tar.FormatPAX
	holes := file("holes", strings.Repeat("\x00", 4<<20)+"end")
	lnk := link(tar.TypeSymlink, "etc/abs", "/etc/passwd")
	lnk.Uid = 7
	dir := t.TempDir()
	layer := tarOf(t, bin, su, link(tar.TypeLink, "usr/bin/sudo", "bin/su"), lnk, holes, file("./deep/er/file", "x"),
		entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600}},
		entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		file("etc/.wh.gone", ""), file("var/.wh..wh..opq", ""), file("var/.wh..wh.plnk", ""),
		file("new/.wh.both", ""), folder("new/both"), file("new/both/in", "x"), folder("late"), file(".wh.late", ""), file("twice", "1"), file("twice", "2"),
		folder("turns/sub"), file("turns/sub/x", "x"), file("turns", "a file now"), entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}})
	if err := unpack(dir, bytes.NewReader(layer), free); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	st := lstat(t, in("bin/su"))
	if st.Mode != unix.S_IFREG|0o6755 || st.Uid != 1000 || st.Gid != 1001 || st.Mtim.Nano() != at.UnixNano() {
		t.Errorf("bin/su is %o %d:%d %v", st.Mode, st.Uid, st.Gid, st.Mtim)
	}
	if st := lstat(t, in("bin")); st.Mode != unix.S_IFDIR|0o1711 || st.Mtim.Nano() != at.UnixNano() {
		t.Errorf("bin is %o %v", st.Mode, st.Mtim)
	}
	if xattr(in("bin/su"), "security.capability") != capability || xattr(in("bin/su"), "user.note") != "kept" {
		t.Errorf("attributes: %q %q", xattr(in("bin/su"), "security.capability"), xattr(in("bin/su"), "user.note"))
	}
	if lstat(t, in("usr/bin/sudo")).Ino != st.Ino {
		t.Error("the hard link is a file of its own")
	}
	if to, err := os.Readlink(in("etc/abs")); err != nil || to != "/etc/passwd" || lstat(t, in("etc/abs")).Uid != 7 {
		t.Errorf("symlink: %q %v", to, err)
	}
	if st := lstat(t, in("holes")); st.Size != 4<<20+3 || st.Blocks*512 > 1<<20 {
		t.Errorf("holes: %d bytes in %d blocks", st.Size, st.Blocks)
	}
	if b, err := os.ReadFile(in("holes")); err != nil || string(b) != holes.body {
		t.Errorf("the file with holes reads otherwise: %v", err)
	}
	if lstat(t, in("fifo")).Mode != unix.S_IFIFO|0o600 {
		t.Errorf("fifo is %o", lstat(t, in("fifo")).Mode)
	}
	if st := lstat(t, in("dev/null")); st.Mode != unix.S_IFCHR|0o666 || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("dev/null is %o %x", st.Mode, st.Rdev)
	}
	if !isWhiteout(lstat(t, in("etc/gone"))) {
		t.Error("etc/gone hides nothing")
	}
	for _, name := range []string{"var", "new/both", "late"} {
		if xattr(in(name), opaque) != "y" {
			t.Errorf("%s is not opaque: %s", name, xattr(in(name), opaque))
		}
	}
	if xattr(in("bin"), opaque) == "y" {
		t.Error("bin is opaque")
	}
	if b, _ := os.ReadFile(in("twice")); string(b) != "2" {
		t.Errorf("twice is %q", b)
	}
	if b, _ := os.ReadFile(in("turns")); string(b) != "a file now" {
		t.Errorf("turns is %q", b)
	}
}

// tree is what is under a folder, to see whether something came or went.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all = append(all, path+" "+info.Mode().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// outside lays a layer's folder among others that it must not touch.
func outside(t testing.TB) (dir, canary string) {
	canary = filepath.Join(t.TempDir(), "canary")
	dir = filepath.Join(t.TempDir(), "layer")
	for _, d := range []string{dir, canary, filepath.Join(dir, "..", "beside")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(canary, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, canary
}

func hostile(canary string) map[string][]entry {
	long := strings.Repeat("n", 300)
	attr := file("x", "")
	attr.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/etc"}
	stranger := file("x", "")
	stranger.Uid = -1
	return map[string][]entry{
		"leaves by dots":                    {file("../beside/x", "x")},
		"leaves by dots inside":             {folder("a"), file("a/../../beside/x", "x")},
		"writes through an absolute link":   {link(tar.TypeSymlink, "a", canary), file("a/x", "x")},
		"writes through a relative link":    {link(tar.TypeSymlink, "a", "../beside"), file("a/x", "x")},
		"writes through a link inside":      {folder("b"), link(tar.TypeSymlink, "a", "b"), file("a/x", "x")},
		"makes a folder through a link":     {link(tar.TypeSymlink, "a", canary), folder("a/b/c")},
		"makes a device through a link":     {link(tar.TypeSymlink, "a", canary), {Header: tar.Header{Typeflag: tar.TypeChar, Name: "a/null", Devmajor: 1, Devminor: 3}}},
		"whiteout through a link":           {link(tar.TypeSymlink, "a", canary), file("a/.wh.secret", "")},
		"opaque through a link":             {link(tar.TypeSymlink, "a", canary), file("a/.wh..wh..opq", "")},
		"links to a file outside":           {link(tar.TypeLink, "x", "../../../../../../etc/passwd")},
		"links through a link":              {link(tar.TypeSymlink, "a", canary), link(tar.TypeLink, "x", "a/secret"), file("x", "overwritten")},
		"links to nothing":                  {link(tar.TypeLink, "x", "nothing")},
		"links to a folder":                 {folder("a"), link(tar.TypeLink, "x", "a")},
		"links to its own root":             {link(tar.TypeLink, "x", ".")},
		"symlink to nothing":                {link(tar.TypeSymlink, "x", "")},
		"below a file":                      {file("a", "x"), file("a/x", "x")},
		"below a whiteout":                  {file(".wh.a", ""), file("a/x", "x")},
		"removes the folder above":          {file("a/.wh...", "")},
		"removes nothing":                   {file("a/.wh.", "")},
		"its root is a file":                {file(".", "")},
		"its root is a link":                {link(tar.TypeSymlink, ".", canary)},
		"an attribute that steers overlays": {attr},
		"a name that is too long":           {file(long, "x")},
		"a folder that is too long":         {file(long+"/x", "x")},
		"belongs to nobody there is":        {stranger},
		"an unknown kind":                   {{Header: tar.Header{Typeflag: 'V', Name: "x"}}},
	}
}

func TestHostileLayersAreRefused(t *testing.T) {
	needsRoot(t)
	for name := range hostile("") {
		t.Run(name, func(t *testing.T) {
			dir, canary := outside(t)
			before := slices.Concat(tree(t, canary), tree(t, filepath.Dir(dir)+"/beside"))
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, e := range hostile(canary)[name] {
				if err := w.WriteHeader(&e.Header); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write([]byte(e.body)); err != nil {
					t.Fatal(err)
				}
			}
			err := unpack(dir, &b, free)
			if !errors.Is(err, functions.ErrInvalid) {
				t.Errorf("unpack = %v, want invalid", err)
			}
			if after := slices.Concat(tree(t, canary), tree(t, filepath.Dir(dir)+"/beside")); !slices.Equal(before, after) {
				t.Errorf("outside of the layer:\n%q\nwas\n%q", after, before)
			}
			if secret, _ := os.ReadFile(filepath.Join(canary, "secret")); string(secret) != "secret" {
				t.Errorf("the secret is %q", secret)
			}
		})
	}
}

// FuzzUnpack holds any stream of bytes to the layer's own folder.
func FuzzUnpack(f *testing.F) {
	needsRoot(f)
	evil := hostile("/proc/self/cwd/canary")
	for _, name := range slices.Sorted(maps.Keys(evil)) {
		if name != "belongs to nobody there is" { // a tar writer would not write it in every format
			f.Add(tarOf(f, evil[name]...))
		}
	}
	f.Add([]byte("no tar at all"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		dir, canary := outside(t)
		before := slices.Concat(tree(t, canary), tree(t, filepath.Dir(dir)+"/beside"))
		left := functions.Bytes(1 << 20)
		err := unpack(dir, bytes.NewReader(stream), func(n functions.Bytes) error {
			if left -= n; left < 0 {
				return errors.New("enough")
			}
			return nil
		})
		if after := slices.Concat(tree(t, canary), tree(t, filepath.Dir(dir)+"/beside")); !slices.Equal(before, after) {
			t.Errorf("%v: outside of the layer:\n%q\nwas\n%q", err, after, before)
		}
	})
}
