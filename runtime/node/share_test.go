package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/shares"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// shareTree makes a shared folder, and a secret beside it.
func shareTree(t *testing.T) (root string, folders *shares.Folders) {
	t.Helper()
	base := t.TempDir()
	root = filepath.Join(base, "share")
	err := errors.Join(makeFolder(root, 0o755), os.Symlink("../secret", root+"/escape"), os.Mkdir(root+"/dir", 0o755))
	for file, mode := range map[string]os.FileMode{root + "/a.txt": 0o644, root + "/private": 0o600, base + "/secret": 0o644} {
		err = errors.Join(err, os.WriteFile(file, []byte("of "+filepath.Base(file)), 0o600), os.Chmod(file, mode))
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := ContainerUser()
	if os.Geteuid() != 0 { // the agent's own files are the container's: be someone else
		uid, gid = uid+1, gid+1
	}
	folders, err = shares.New(map[string]string{"media": root, "away": base + "/none"}, shares.User{UID: uint32(uid), GID: uint32(gid)})
	if err != nil {
		t.Fatal(err)
	}
	return root, folders
}

// mounts are the mounts of this process below a folder.
func mounts(t *testing.T, dir string) (found []string) {
	t.Helper()
	all, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		if strings.Contains(line, " "+dir) {
			found = append(found, line)
		}
	}
	return found
}

func TestSharedInputs(t *testing.T) {
	for _, c := range []struct {
		file  string
		etag  bool // compare with what was seen at the submit
		class functions.Class
	}{
		{"media/a.txt", false, ""},
		{"media/a.txt", true, functions.InputGone}, // changed since
		{"media/none", false, functions.InputGone},
		{"media/private", false, functions.Permanent},
		{"media/escape", false, functions.Permanent},
		{"media/dir", false, functions.Permanent},
		{"media/../secret", false, functions.Permanent},
		{"away/a.txt", false, functions.Infra},
		{"unknown/a.txt", false, functions.Infra},
	} {
		t.Run(strings.ReplaceAll(c.file, "/", "|"), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				root, folders := shareTree(t)
				cfg := w.config()
				cfg.Shares = folders
				var read string
				var bound bool
				w.fake.Add("work", program(func(_ context.Context, p *runtimetest.Process) int {
					path, err := p.Path("/task/in/x")
					if err != nil {
						t.Error(err)
					}
					data, err := os.ReadFile(path)
					if err != nil {
						t.Error(err)
					}
					read, bound = string(data), len(mounts(t, path)) == 1
					return 0
				}))
				a := w.agent(cfg)
				as := w.order(a)
				as.Function.Image = "work"
				as.Task.Inputs = []functions.Input{{Name: "x", File: c.file, ObjectRef: functions.ObjectRef{Size: functions.UnknownSize}}}
				if c.etag {
					ref, _, err := folders.Look(c.file, 0)
					if err != nil {
						t.Fatal(err)
					}
					as.Task.Inputs[0].ObjectRef = ref
					if err := os.Chtimes(root+"/a.txt", time.Time{}, time.Unix(1, 0)); err != nil {
						t.Fatal(err)
					}
				}
				phase := functions.PhaseStage
				if c.class == "" {
					phase = ""
				}
				wantClass(t, w.do(a, as), c.class, phase)
				if c.class == "" && (read != "of a.txt" || bound != (os.Geteuid() == 0 && mountsAsHost())) {
					t.Errorf("the container read %q, mounted: %v", read, bound)
				}
				w.nothingLeft()
				if left := mounts(t, w.dir); len(left) > 0 {
					t.Errorf("mounts are left: %s", left)
				}
				if got, err := os.ReadFile(root + "/a.txt"); err != nil || string(got) != "of a.txt" {
					t.Errorf("the shared file is %q, %v", got, err)
				}
			})
		})
	}
}

// swapping opens a file, and puts a link to a secret in its place before anybody
// can use what was opened.
type swapping struct {
	*shares.Folders
	root string
}

func (s swapping) Open(file string) (*os.File, functions.ObjectRef, error) {
	f, ref, err := s.Folders.Open(file)
	name := filepath.Join(s.root, strings.TrimPrefix(file, "media/"))
	return f, ref, errors.Join(err, os.Rename(name, name+".moved"), os.Symlink("../secret", name))
}

func TestASwapAfterTheCheckLeaksNothing(t *testing.T) {
	for name, bring := range map[string]func(f *os.File, target string) error{"bind": bindOpen, "link": linkOpen, "copy": func(f *os.File, target string) error { return copyTo(target, f) }} {
		t.Run(name, func(t *testing.T) {
			root, folders := shareTree(t)
			f, _, err := swapping{folders, root}.Open("media/a.txt")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			dir := t.TempDir()
			target := filepath.Join(dir, "x")
			if err := bring(f, target); err != nil {
				if name == "bind" && !(os.Geteuid() == 0 && mountsAsHost()) {
					t.Skipf("SKIPPED: this process may not mount: %v", err)
				}
				t.Fatal(err)
			}
			got, err := os.ReadFile(target)
			if err != nil || string(got) != "of a.txt" {
				t.Errorf("it gives %q, %v", got, err)
			}
			if name == "bind" {
				if _, err := os.OpenFile(target, os.O_WRONLY, 0); err == nil {
					t.Error("it can be written to")
				}
				if err := unbind(dir); err != nil {
					t.Fatal(err)
				}
				if len(mounts(t, dir)) > 0 {
					t.Error("it stays mounted")
				}
			}
		})
	}
}

// stuck is a file server that is away.
type stuck struct {
	back  chan struct{}
	once  sync.Once
	names []string
}

func (s *stuck) Mounted() []string { <-s.back; return s.names }

func (s *stuck) Open(string) (*os.File, functions.ObjectRef, error) {
	<-s.back
	return nil, functions.ObjectRef{}, functions.ErrUnavailable
}

func (s *stuck) comeBack() { s.once.Do(func() { close(s.back) }) }

func TestAHungFileServerHoldsNothingUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := &stuck{back: make(chan struct{}), names: []string{"media"}}
		cfg := w.config()
		cfg.Shares = s
		a := w.agent(cfg)
		t.Cleanup(s.comeBack) // before the agent's own clean-up
		as := w.order(a)
		as.Task.Inputs = []functions.Input{{Name: "x", File: "media/a"}}
		wantClass(t, w.do(a, as), functions.Infra, functions.PhaseStage)
		if got := w.log.lastBeat().Node.Shares; len(got) > 0 {
			t.Errorf("listed: %v", got)
		}
		s.comeBack()
		w.until("the share is listed", func() bool { return slices.Equal(w.log.lastBeat().Node.Shares, []string{"media"}) })
	})
}

func TestHeartbeatsListWhatIsMounted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		_, folders := shareTree(t)
		cfg := w.config()
		cfg.Shares = folders
		w.agent(cfg)
		w.until("the share is listed", func() bool { return slices.Equal(w.log.lastBeat().Node.Shares, []string{"media"}) })
	})
}

// web is a server of one file.
type web struct {
	data []byte
	err  error
	room int64
}

func (s *web) Fetch(_ context.Context, url string, w io.Writer, room int64) (string, int64, error) {
	s.room = room
	if _, err := w.Write(s.data); err != nil {
		return "", 0, fmt.Errorf("write: %w", err)
	}
	return "", int64(len(s.data)), s.err
}

func TestInputsFromURLs(t *testing.T) {
	for name, c := range map[string]struct {
		web   *web
		class functions.Class
	}{
		"there":       {&web{data: []byte("hello")}, ""},
		"gone":        {&web{err: functions.NotFound("url_status", "answered 404")}, functions.InputGone},
		"refused":     {&web{err: functions.NewError(functions.ErrForbidden, "url_refused", "not public")}, functions.Permanent},
		"no URL":      {&web{err: functions.Invalid("bad_url", "no URL")}, functions.Permanent},
		"too large":   {&web{err: functions.NewError(functions.ErrTooLarge, "url_too_large", "over 10GiB")}, functions.Permanent},
		"unreachable": {&web{data: []byte("hel"), err: functions.Unavailable("url_unreachable", "broke off")}, functions.Store},
		"unknown":     {&web{err: errors.New("strange")}, functions.Store},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg := w.config()
				cfg.Web = c.web
				a := w.agent(cfg)
				as := w.order(a, "cat", "{in}")
				as.Function.Stdout = functions.StdoutResult
				as.Task.Inputs = []functions.Input{{Name: "x", URL: "https://host/x?token=secret", ObjectRef: functions.ObjectRef{Size: functions.UnknownSize}}}
				out := w.do(a, as)
				if c.class != "" {
					wantClass(t, out, c.class, functions.PhaseStage)
					if strings.Contains(out.Failure.Message, "secret") {
						t.Errorf("the failure says %q", out.Failure.Message)
					}
				} else if wantClass(t, out, "", ""); out.ResultText == nil || *out.ResultText != "hello" {
					t.Errorf("result %s %v", out.Result, out.ResultText)
				}
				if c.web.room <= 0 {
					t.Errorf("fetched with room for %d bytes", c.web.room)
				}
				w.nothingLeft()
			})
		})
	}
}

// On a real engine: a file of a share is read, is not to be changed, and is the
// one that was checked.
func TestSharedInputsOnDocker(t *testing.T) {
	d, image := realDocker(t)
	root, folders := shareTree(t)
	w := newWorld(t)
	cfg := w.config()
	cfg.ID = functions.NodeID("test-" + strings.ToLower(t.Name()))
	cfg.Driver, cfg.Shares = d, swapping{folders, root}
	noneLeft(t, d, cfg.ID)
	swapper := w.agent(cfg)
	run := func(a *agent, file string, command ...string) functions.Outcome {
		t.Helper()
		as := w.order(a)
		as.Function.Image, as.Function.Command, as.Function.Stdout = image, command, functions.StdoutResult
		as.Task.Inputs = []functions.Input{{Name: "x", File: file}}
		a.admit(as)
		var e functions.Event
		w.until("fin", func() (ok bool) {
			w.log.mu.Lock()
			defer w.log.mu.Unlock()
			e, ok = w.log.ids["fin-"+string(as.Task.ID)+"-1"]
			return ok
		})
		w.until("the task's folder is gone", func() bool {
			left, err := os.ReadDir(filepath.Join(cfg.DataDir, "tasks"))
			return err == nil && len(left) == 0
		})
		if left := mounts(t, cfg.DataDir); len(left) > 0 {
			t.Errorf("mounts are left: %s", left)
		}
		return e.Fin.Outcome
	}

	out := run(swapper, "media/a.txt", "cat", "/task/in/x")
	if out.Failure != nil || out.ResultText == nil || *out.ResultText != "of a.txt" {
		t.Errorf("swapped after the check: failure %+v, result %v, log %q", out.Failure, out.ResultText, out.LogTail)
	}
	if target, err := os.Readlink(root + "/a.txt"); err != nil || target != "../secret" {
		t.Fatalf("it was not swapped: %q %v", target, err)
	}
	swapper.quit()
	cfg.Shares = folders
	a := w.agent(cfg)
	for file, class := range map[string]functions.Class{"media/a.txt": functions.Permanent, "media/private": functions.Permanent, "media/escape": functions.Permanent, "media/none": functions.InputGone} {
		if out := run(a, file, "cat", "/task/in/x"); out.Failure == nil || out.Failure.Class != class || out.ResultText != nil {
			t.Errorf("%s: failure %+v, result %v; want %s", file, out.Failure, out.ResultText, class)
		}
	}
	text := bytes.Repeat([]byte("precious"), 1000)
	if err := errors.Join(os.WriteFile(root+"/safe", text, 0o600), os.Chmod(root+"/safe", 0o666)); err != nil { // its mode alone would let anybody write
		t.Fatal(err)
	}
	out = run(a, "media/safe", "harm", "/task/in/x", "/task/out/y")
	if out.Failure != nil || len(out.Outputs) != 0 || strings.Count(out.LogTail, "refused") != 13 {
		t.Errorf("failure %+v, result %s %v, outputs %+v, log %q", out.Failure, out.Result, out.ResultText, out.Outputs, out.LogTail)
	}
	if got, err := os.ReadFile(root + "/safe"); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the shared file has changed: %d bytes, %v", len(got), err)
	}
}
