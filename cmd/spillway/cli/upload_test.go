package cli

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

const testPart = 64 << 10

// Every kind of trouble on the way ends with the whole file in the store.
func TestUploadOutlastsFaults(t *testing.T) {
	for _, c := range []struct {
		name     string
		partSize int64
		cut      int
		forget   bool
		fault    func(w http.ResponseWriter, r *http.Request, part, nth int) bool
		puts     map[int]int // requests for a part; the others have one
	}{
		{name: "none", partSize: testPart},
		{name: "none, one piece"},
		{name: "a part fails twice", partSize: testPart, puts: map[int]int{3: 3},
			fault: func(w http.ResponseWriter, _ *http.Request, part, nth int) bool {
				if part != 3 || nth > 2 {
					return false
				}
				refuse(w, http.StatusServiceUnavailable, "SlowDown")
				return true
			}},
		{name: "a signature is over", partSize: testPart, puts: map[int]int{2: 2},
			fault: func(w http.ResponseWriter, _ *http.Request, part, nth int) bool {
				if part != 2 || nth > 1 {
					return false
				}
				refuse(w, http.StatusForbidden, "AccessDenied")
				return true
			}},
		{name: "a signature is over, one piece", puts: map[int]int{0: 2},
			fault: func(w http.ResponseWriter, _ *http.Request, _, nth int) bool {
				if nth > 1 {
					return false
				}
				refuse(w, http.StatusForbidden, "AccessDenied")
				return true
			}},
		{name: "the connection is cut in the middle of a part", partSize: testPart, puts: map[int]int{4: 2},
			fault: func(_ http.ResponseWriter, r *http.Request, part, nth int) bool {
				if part != 4 || nth > 1 {
					return false
				}
				_, _ = io.ReadFull(r.Body, make([]byte, 1000))
				panic(http.ErrAbortHandler)
			}},
		{name: "the gateway restarts", partSize: testPart, cut: 3},
		{name: "the gateway restarts before the end, one piece", cut: 1},
		{name: "the store loses a part", partSize: testPart, forget: true, puts: map[int]int{1: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path, data := sendFile(t, 5*testPart+17)
			cl := newCloud(t, c.partSize)
			cl.forget = c.forget
			cl.fault = func(w http.ResponseWriter, r *http.Request, part, nth int) bool {
				cl.mu.Lock()
				cl.cut, c.cut = cl.cut+c.cut, 0 // once, in the middle
				cl.mu.Unlock()
				return c.fault != nil && c.fault(w, r, part, nth)
			}
			got := cl.run("upload", path, "--function", "f", "-o", "name")
			if (got != said{out: "task/up1\n"}) {
				t.Fatalf("%+v", got)
			}
			if !bytes.Equal(cl.content(), data) {
				t.Error("the store has other bytes than the file")
			}
			for part, n := range cl.puts {
				if want := max(1, c.puts[part]); n != want {
					t.Errorf("part %d was sent %d times, want %d", part, n, want)
				}
			}
			if left := cl.remembered(); len(left) != 0 {
				t.Errorf("%q are left after the end", left)
			}
		})
	}
}

// full refuses a part as a store without room does.
func full(only int) func(http.ResponseWriter, *http.Request, int, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, part, _ int) bool {
		if part != only {
			return false
		}
		refuse(w, http.StatusInsufficientStorage, "XMinioStorageFull")
		return true
	}
}

// interrupted is a cloud that has all parts of a file but the last.
func interrupted(t *testing.T) (cl *cloud, path string, data []byte) {
	t.Helper()
	path, data = sendFile(t, 5*testPart+17)
	cl = newCloud(t, testPart)
	cl.fault = full(6)
	got := cl.run("upload", path, "--function", "f", "--parallel", "1")
	if got.code != 1 || !strings.Contains(got.err, "hint: the store's disk is full") || !strings.Contains(got.err, "run the same command again") {
		t.Fatalf("%+v", got)
	}
	if n := len(cl.remembered()); n != 1 || cl.puts[6] != 1 {
		t.Fatalf("%d uploads remembered, part 6 tried %d times", n, cl.puts[6])
	}
	cl.fault = nil
	clear(cl.puts)
	return cl, path, data
}

func TestUploadGoesOn(t *testing.T) {
	cl, path, data := interrupted(t)
	cl.parts[2] = bytes.Repeat([]byte("x"), testPart) // right size, wrong bytes: its SHA-256 tells
	got := cl.run("upload", path, "--function", "f")
	if got.code != 0 || !strings.Contains(got.err, "going on with upload up1\n") || !strings.Contains(got.err, ", 256KiB of it before\n") {
		t.Errorf("%+v", got)
	}
	if !bytes.Equal(cl.content(), data) || len(cl.puts) != 2 || cl.puts[2] != 1 || cl.puts[6] != 1 {
		t.Errorf("sent %v, want parts 2 and 6", cl.puts)
	}
	if left := cl.remembered(); len(left) != 0 {
		t.Errorf("%q are left after the end", left)
	}
}

// What is remembered is not taken where it does not fit, and words say why.
func TestUploadBeginsAnew(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(cl *cloud, path string)
		args []string
		says string
		id   string
	}{
		{"the file changed", func(_ *cloud, path string) {
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}, nil, "the file changed since upload up1 began", "up2"},
		{"expired", func(cl *cloud, _ string) { cl.state = "expired" }, nil, "upload up1 has expired; beginning anew", "up2"},
		{"forgotten by the gateway", func(cl *cloud, _ string) { cl.id = "other" }, nil, "no longer knows upload up1", "up2"},
		{"asked to", func(*cloud, string) {}, []string{"--no-resume"}, "upload up1 is left as it is", "up2"},
		{"another event", func(*cloud, string) {}, []string{"-d", "{}"}, "uploading clip.mov", "up2"},
		{"complete already", func(cl *cloud, _ string) { cl.state = "succeeded" }, nil, "upload up1 was complete already; following its task", "up1"},
		{"named", func(*cloud, string) {}, []string{"--resume", "up1"}, "uploaded clip.mov", "up1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, path, _ := interrupted(t)
			c.do(cl, path)
			got := cl.run(append([]string{"upload", path, "--function", "f"}, c.args...)...)
			if got.code != 0 || !strings.Contains(got.err, c.says) || !strings.HasPrefix(got.out, "task        "+c.id+"\n") {
				t.Errorf("%+v; want it to say %q and show %s", got, c.says, c.id)
			}
		})
	}
}

func TestUploadNamed(t *testing.T) {
	cl, path, _ := interrupted(t)
	other := filepath.Join(filepath.Dir(path), "other.mov")
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{other, "--resume", "up1"}, 2},
		{[]string{path, other, "--resume", "up1"}, 2},
		{[]string{path, "--resume", "up1", "--function", "g"}, 2},
		{[]string{path, "--resume", "up1", "--no-resume"}, 1}, // the parser's words; main makes them a 2
		{[]string{path, "--resume", "nosuch"}, 4},
	} {
		if got := cl.run(append([]string{"upload"}, c.args...)...); got.code != c.code {
			t.Errorf("%v: %+v, want code %d", c.args, got, c.code)
		}
	}
	cl.state = "canceled"
	if got := cl.run("upload", path, "--resume", "up1"); got.code != 5 || !strings.Contains(got.err, "--no-resume") {
		t.Errorf("of a canceled one: %+v", got)
	}
}

// Two processes that upload the same file at once do not mix.
func TestUploadTwiceAtOnce(t *testing.T) {
	path, _ := sendFile(t, 3*testPart)
	cl := newCloud(t, testPart)
	first, err := (&uploader{app: App{Getenv: func(string) string { return cl.home }}, c: &client{base: cl.srv.URL}, path: path, o: uploadOptions{function: "f"}}).remember()
	if err != nil || first == nil {
		t.Fatal(first, err)
	}
	if err := first.keep(remembered{ID: "nosuch"}); err != nil {
		t.Fatal(err)
	}
	got := cl.run("upload", path, "--function", "f")
	if got.code != 0 || !strings.Contains(got.err, "another process uploads this file") {
		t.Errorf("%+v", got)
	}
	first.close()
	if n := len(cl.remembered()); n != 1 {
		t.Errorf("%d uploads are remembered, want the first one's", n)
	}
}

func TestUploadRefusals(t *testing.T) {
	for _, c := range []struct {
		status int
		s3     string
		code   int
		puts   int
		hint   string
	}{
		{403, "RequestTimeTooSkewed", 3, 3, "compare the clocks"},
		{403, "SignatureDoesNotMatch", 3, 3, "--store-public"},
		{400, "BadDigest", 2, 3, "other bytes than were hashed"},
		{404, "NoSuchUpload", 5, 1, "run the command again"},
		{413, "EntityTooLarge", 2, 1, "no request of this size"},
		{507, "XMinioStorageFull", 1, 1, "disk is full"},
	} {
		t.Run(c.s3, func(t *testing.T) {
			t.Parallel()
			path, _ := sendFile(t, 100)
			cl := newCloud(t, testPart)
			cl.fault = func(w http.ResponseWriter, _ *http.Request, _, _ int) bool {
				refuse(w, c.status, c.s3)
				return true
			}
			got := cl.run("upload", path, "--function", "f")
			if got.code != c.code || cl.puts[1] != c.puts || !strings.Contains(got.err, c.hint) || !strings.Contains(got.err, c.s3) {
				t.Errorf("%+v after %d tries, want code %d after %d", got, cl.puts[1], c.code, c.puts)
			}
		})
	}
}

func TestUploadOfAChangingFile(t *testing.T) {
	path, _ := sendFile(t, 3*testPart)
	cl := newCloud(t, testPart)
	cl.fault = func(_ http.ResponseWriter, _ *http.Request, part, _ int) bool {
		if part == 3 {
			if f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0); err == nil {
				_, _ = f.WriteString("more")
				_ = f.Close()
			}
		}
		return false
	}
	if got := cl.run("upload", path, "--function", "f"); got.code != 5 || !strings.Contains(got.err, "changed while it was being sent") || cl.state != "awaiting_upload" {
		t.Errorf("%+v, and the upload is %s", got, cl.state)
	}
}

func TestUploadOfSeveral(t *testing.T) {
	one, _ := sendFile(t, 100)
	two, _ := sendFile(t, 200)
	missing := one + ".missing"
	cl := newCloud(t, testPart)
	got := cl.run("upload", one, missing, two, "--function", "f", "-o", "json")
	if got.code != 4 || !strings.Contains(got.err, "error: 1 of 3 files failed\n") || strings.Count(got.err, "error:") != 2 {
		t.Errorf("%+v", got)
	}
	var tasks []taskView
	if err := decode([]byte(got.out), &tasks); err != nil || len(tasks) != 2 || tasks[0].ID != "up1" || tasks[1].ID != "up2" {
		t.Errorf("%v: %+v", err, tasks)
	}
	if got := cl.run("upload", one, two, "--function", "f", "-o", "name"); got != (said{out: "task/up3\ntask/up4\n"}) {
		t.Errorf("%+v", got)
	}
	people := cl.run("upload", one, two, "--function", "f")
	for _, want := range []string{"file 2 of 2: " + two + "\n", "uploading clip.mov: 200B\n", "uploaded clip.mov: 200B in "} {
		if !strings.Contains(people.err, want) {
			t.Errorf("%q is not in %q", want, people.err)
		}
	}
	nowhere := runAs(t, App{Getenv: func(string) string { return "" }}, "upload", one, two, "--function", "f", "--no-resume", "--server", "http://127.0.0.1:1")
	if nowhere.code != 7 || !strings.Contains(nowhere.err, "1 of 2 files failed, and 1 were not tried") {
		t.Errorf("%+v", nowhere)
	}
}

func TestMeter(t *testing.T) {
	at := time.Unix(0, 0)
	m := &meter{total: int64(100 * functions.MiB)}
	if got, want := m.String(), "0% 0B of 100MiB"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	m.held.Store(int64(20 * functions.MiB))
	for range 20 { // faster at first: only the last ten seconds count
		m.look(at)
		m.sent.Add(int64(functions.MiB))
		at = at.Add(time.Second)
	}
	m.look(at)
	if got, want := m.String(), "40% 40MiB of 100MiB, 1MiB/s, 1m0s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	c := &counted{r: strings.NewReader("0123456789"), m: m}
	if _, err := io.Copy(io.Discard, c); err != nil || m.sent.Load() != int64(20*functions.MiB)+10 {
		t.Error("what was read is not counted", err)
	}
	if c.takeBack(); m.sent.Load() != int64(20*functions.MiB) {
		t.Error("what did not arrive is still counted")
	}
	if empty := (&meter{}).String(); empty != "100% 0B of 0B" {
		t.Errorf("an empty file: %q", empty)
	}
}

func TestMemoryOfATornWrite(t *testing.T) {
	m, err := lockFile(filepath.Join(t.TempDir(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if err := errors.Join(m.keep(remembered{ID: "up1", Path: strings.Repeat("x", 100)}), m.keep(remembered{ID: "up2"})); err != nil || m.recall().ID != "up2" {
		t.Errorf("%+v, %v", m.recall(), err)
	}
	if err := m.file.Truncate(5); err != nil || m.recall().ID != "" {
		t.Errorf("half a memory is taken for one: %+v, %v", m.recall(), err)
	}
}
