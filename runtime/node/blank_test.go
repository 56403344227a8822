package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stocked returns blanks of which one was handed out to a folder.
func stocked(t *testing.T) (*blanks, folder) {
	t.Helper()
	b := newBlanks(t.TempDir(), containerUser())
	if err := b.add(); err != nil {
		t.Fatal(err)
	}
	f := folder(filepath.Join(t.TempDir(), "task"))
	if !b.take("f", f) {
		t.Fatal("nothing to take")
	}
	return b, f
}

func TestFolderIsUsedAgain(t *testing.T) {
	b, f := stocked(t)
	for name, text := range map[string]string{"work/result.json": "{}", "work/out/a": "a", "tmp/t": "t", "log.jsonl": "{}"} {
		if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(kept), f.path("work", "out", "link")); err != nil {
		t.Fatal(err)
	}
	if err := makeFolder(f.in(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.note(entry{Held: &record{}}); err != nil {
		t.Fatal(err)
	}
	if err := f.forget(); err != nil {
		t.Fatal(err)
	}
	if !b.giveBack("f", f) {
		t.Fatal("a folder that can be tidied is not taken back")
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	next := folder(filepath.Join(t.TempDir(), "next"))
	if b.take("g", next) {
		t.Error("another function got a folder that containers of the first have seen")
	}
	if !b.take("f", next) {
		t.Fatal("its own function did not get the folder back")
	}
	var names []string
	err := filepath.WalkDir(string(next), func(path string, _ os.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, string(next)))
		return err
	})
	if want := " /attempt.jsonl /event.json /tmp /work /work/event.json /work/in /work/out"; err != nil || strings.Join(names, " ") != want {
		t.Errorf("the folder holds%s, %v; want%s", strings.Join(names, " "), err, want)
	}
	if m, err := next.memory(); err != nil || m.Held != nil {
		t.Errorf("the journal still says %+v, %v", m, err)
	}
}

func TestAlteredFolderIsNotUsedAgain(t *testing.T) {
	for name, harm := range map[string]func(f folder) error{
		"a mode":           func(f folder) error { return os.Chmod(f.tmp(), 0o700) },
		"a missing folder": func(f folder) error { return os.Remove(f.path("work", "out")) },
		"a link for a folder": func(f folder) error {
			if err := os.Remove(f.path("work", "out")); err != nil {
				return err
			}
			return os.Symlink("../tmp", f.path("work", "out"))
		},
		"a missing mount point": func(f folder) error { return os.Remove(f.path("work", "event.json")) },
		"a second name": func(f folder) error {
			return os.Link(f.path("work", "event.json"), f.path("elsewhere"))
		},
		"an attribute": func(f folder) error {
			return unix.Setxattr(f.work(), "user.note", []byte("x"), 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, f := stocked(t)
			if err := harm(f); err != nil {
				if name == "an attribute" {
					t.Skip("SKIPPED: the file system has no extended attributes: ", err)
				}
				t.Fatal(err)
			}
			if b.giveBack("f", f) {
				t.Error("it was taken back")
			}
		})
	}
}

func TestUsedFoldersAreBounded(t *testing.T) {
	b := newBlanks(t.TempDir(), containerUser())
	for i := range mostUsed {
		if over := b.keep("f", folder(filepath.Join(b.dir, "f", string(rune('a'+i%26))))); over != "" {
			t.Fatalf("folder %d goes for another", i)
		}
	}
	if over := b.keep("g", "g"); over == "" || b.kept != mostUsed || len(b.used["f"]) != mostUsed-1 {
		t.Errorf("%q goes, %d are kept, %d of f", over, b.kept, len(b.used["f"]))
	}
}
