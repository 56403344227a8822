package shares

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// tree makes a share with files of every kind, and a secret beside it.
func tree(t *testing.T) (root string) {
	t.Helper()
	base := t.TempDir()
	root = filepath.Join(base, "share")
	for _, dir := range []struct {
		name string
		mode os.FileMode
	}{{root, 0o755}, {root + "/dir", 0o755}, {root + "/dir/sub", 0o755}, {root + "/closed", 0o700}, {base + "/outside", 0o755}} {
		if err := errors.Join(os.MkdirAll(dir.name, 0o755), os.Chmod(dir.name, dir.mode)); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{
		root + "/a.wav": 0o644, root + "/dir/b.wav": 0o444, root + "/dir/sub/c.wav": 0o604, root + "/closed/d.wav": 0o644,
		root + "/private": 0o600, root + "/group": 0o640, base + "/outside/secret": 0o644,
	} {
		if err := errors.Join(os.WriteFile(name, []byte(filepath.Base(name)), 0o600), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"link": "a.wav", "dir/up": "../a.wav", "dir/deep": "sub/../../../outside/secret", "abs": filepath.Join(base, "outside/secret"),
		"out": "../outside/secret", "outdir": "../outside", "within": "dir/sub", "loop": "loop", "again": "within/../b.wav",
		"inside-abs": root + "/a.wav", "to-closed": "closed/d.wav", "dangling": "nowhere", "dots": ".././share/a.wav",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(root+"/pipe", 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

// stranger is a user who owns nothing here.
func stranger() User { return User{UID: uint32(os.Getuid()) + 4711, GID: uint32(os.Getgid()) + 4711} }

func TestOpenStaysInsideAndKeepsToTheRights(t *testing.T) {
	f, err := New(map[string]string{"media": tree(t)}, stranger())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file  string
		class error
		says  string // the content, or part of the error
	}{
		{"media/a.wav", nil, "a.wav"},
		{"media/dir/b.wav", nil, "b.wav"},
		{"media/dir/sub/c.wav", nil, "c.wav"},
		{"media/link", nil, "a.wav"},
		{"media/dir/up", nil, "a.wav"},
		{"media/within/c.wav", nil, "c.wav"},
		{"media/closed/d.wav", functions.ErrForbidden, "permissions"},
		{"media/to-closed", functions.ErrForbidden, "permissions"},
		{"media/private", functions.ErrForbidden, "permissions"},
		{"media/group", functions.ErrForbidden, "permissions"},
		{"media/dir", functions.ErrForbidden, "not a regular file"},
		{"media/pipe", functions.ErrForbidden, "not a regular file"},
		{"media/dir/deep", functions.ErrForbidden, "out of the shared folder"},
		{"media/abs", functions.ErrForbidden, "out of the shared folder"},
		{"media/out", functions.ErrForbidden, "out of the shared folder"},
		{"media/outdir/secret", functions.ErrForbidden, "out of the shared folder"},
		{"media/inside-abs", functions.ErrForbidden, "out of the shared folder"},
		{"media/again", functions.ErrForbidden, "out of the shared folder"},
		{"media/dots", functions.ErrForbidden, "out of the shared folder"},
		{"media/loop", functions.ErrForbidden, "too many links"},
		{"media/dangling", functions.ErrNotFound, "does not exist"},
		{"media/nope", functions.ErrNotFound, "does not exist"},
		{"media/a.wav/x", functions.ErrNotFound, "does not exist"},
		{"media/../outside/secret", functions.ErrInvalid, "not a file of a shared folder"},
		{"other/a.wav", functions.ErrUnavailable, "not configured"},
	} {
		t.Run(strings.ReplaceAll(c.file, "/", "|"), func(t *testing.T) {
			opened, ref, err := f.Open(c.file)
			if c.class != nil {
				var e *functions.Error
				if !errors.Is(err, c.class) || !errors.As(err, &e) || !strings.Contains(e.Message, c.says) {
					t.Fatalf("err %v, want %v: %s", err, c.class, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			got, err := io.ReadAll(opened)
			if err != nil || string(got) != c.says || ref.Size != int64(len(got)) || ref.ETag == "" {
				t.Errorf("%q %+v %v", got, ref, err)
			}
			if _, err := opened.Write([]byte("x")); err == nil {
				t.Error("it can be written to")
			}
		})
	}
}

func TestOwnerAndGroupCount(t *testing.T) {
	root := tree(t)
	own := User{UID: uint32(os.Getuid()), GID: stranger().GID}
	group := User{UID: stranger().UID, GID: uint32(os.Getgid())}
	for _, c := range []struct {
		user User
		file string
		may  bool
	}{
		{own, "m/private", true}, {own, "m/closed/d.wav", true}, {own, "m/dir/sub/c.wav", true},
		{group, "m/group", true}, {group, "m/private", false}, {group, "m/dir/sub/c.wav", false}, // o+r, but not for the group
	} {
		f, err := New(map[string]string{"m": root}, c.user)
		if err != nil {
			t.Fatal(err)
		}
		_, head, err := f.Look(c.file, 3)
		if (err == nil) != c.may || c.may && string(head) != filepath.Base(c.file)[:3] {
			t.Errorf("%+v %s: %q %v, want %v", c.user, c.file, head, err, c.may)
		}
	}
}

func TestAChangeShows(t *testing.T) {
	root := tree(t)
	f, err := New(map[string]string{"m": root}, stranger())
	if err != nil {
		t.Fatal(err)
	}
	first, _, err := f.Look("m/a.wav", 0)
	if err != nil {
		t.Fatal(err)
	}
	if again, _, _ := f.Look("m/link", 0); again != first {
		t.Errorf("%+v, want %+v", again, first)
	}
	if err := os.Chtimes(root+"/a.wav", time.Time{}, time.Unix(1, 2)); err != nil {
		t.Fatal(err)
	}
	if later, _, _ := f.Look("m/a.wav", 0); later.ETag == first.ETag {
		t.Errorf("a new time does not show: %s", later.ETag)
	}
}

// A share whose folder is missing or empty is a mount point without its mount:
// nothing there is gone for good.
func TestMounted(t *testing.T) {
	dir := t.TempDir()
	f, err := New(map[string]string{"full": tree(t), "empty": dir, "missing": dir + "/x"}, stranger())
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Mounted(); !slices.Equal(got, []string{"full"}) {
		t.Errorf("mounted: %v", got)
	}
	for _, file := range []string{"empty/a", "missing/a"} {
		if _, _, err := f.Look(file, 0); !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("%s: %v", file, err)
		}
	}
	for name, root := range map[string]string{"a/b": "/x", "a": "relative", "": "/x"} {
		if _, err := New(map[string]string{name: root}, stranger()); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%q=%q: %v", name, root, err)
		}
	}
}

// While others swap files and folders for links to a secret, what is opened is
// never the secret.
func TestSwapsLeakNothing(t *testing.T) {
	root := tree(t)
	secret := filepath.Join(root, "../outside/secret")
	f, err := New(map[string]string{"m": root}, stranger())
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(root+"/dir", root+"/dir.away")
			_ = os.Symlink("../outside", root+"/dir")
			_ = os.Remove(root + "/dir")
			_ = os.Rename(root+"/dir.away", root+"/dir")
			_ = os.Rename(root+"/dir/b.wav", root+"/dir/b.away")
			_ = os.Symlink(secret, root+"/dir/b.wav")
			_ = os.Remove(root + "/dir/b.wav")
			_ = os.Symlink("../private", root+"/dir/b.wav")
			_ = os.Remove(root + "/dir/b.wav")
			_ = os.Rename(root+"/dir/b.away", root+"/dir/b.wav")
		}
	}()
	good := 0
	for range 5000 {
		for _, file := range []string{"m/dir/b.wav", "m/dir/secret"} {
			if _, head, err := f.Look(file, 100); err == nil {
				if string(head) != "b.wav" {
					t.Fatalf("%s gave %q", file, head)
				}
				good++
			}
		}
	}
	close(stop)
	<-done
	if good == 0 {
		t.Error("the file itself was never opened: nothing was tested")
	}
}
