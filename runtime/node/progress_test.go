package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

func TestProgressOfFile(t *testing.T) {
	for text, want := range map[string]functions.Progress{
		"0.42 decode the audio track": {Fraction: 0.42, Stage: "decode", Message: "the audio track"},
		"1":                           {Fraction: 1},
		" 0.5  encode ":               {Fraction: 0.5, Stage: "encode"},
		`{"fraction":0.42,"stage":"s","message":"m","eta":1}`: {Fraction: 0.42, Stage: "s", Message: "m"},
	} {
		if got, ok := progressOfFile(text); !ok || got != want {
			t.Errorf("%q = %+v, %v; want %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "half", "1.5 x", "-0.1", "NaN", "Inf x", `{"fraction":2}`, `{"fraction":`, "{}x"} {
		if got, ok := progressOfFile(text); ok {
			t.Errorf("%q = %+v, want none", text, got)
		}
	}
}

func TestProgressOfLog(t *testing.T) {
	for text, want := range map[string]functions.Progress{
		"[75%] encoding":            {Fraction: 0.75, Message: "encoding"},
		"[ 5 %] start":              {Fraction: 0.05, Message: "start"},
		"[100%]":                    {Fraction: 1},
		"Stage: transcribing (67%)": {Fraction: 0.67, Stage: "transcribing"},
	} {
		if got, ok := progressOfLog(text); !ok || got != want {
			t.Errorf("%q = %+v, %v; want %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "75%", "disk [75%] full", "[175%] x", "Stage: x", "Stage: (5)", "[a%]", "[5%] " + strings.Repeat("x", 2000)} {
		if got, ok := progressOfLog(text); ok {
			t.Errorf("%q = %+v, want none", text, got)
		}
	}
}

func TestLastProgress(t *testing.T) {
	for name, c := range map[string]struct {
		make func(file string) error
		want string
	}{
		"no file":           {func(string) error { return nil }, ""},
		"half a line":       {func(f string) error { return os.WriteFile(f, []byte("0.1"), 0o600) }, ""},
		"last complete one": {func(f string) error { return os.WriteFile(f, []byte("0.1 a\n0.2 b\n0.3"), 0o600) }, "0.2 b"},
		"a long file":       {func(f string) error { return os.WriteFile(f, []byte(strings.Repeat("0.1 a\n", 9999)+"0.9 z\n"), 0o600) }, "0.9 z"},
		"a folder":          {func(f string) error { return os.Mkdir(f, 0o700) }, ""},
		"a link out":        {func(f string) error { return os.Symlink("/etc/passwd", f) }, ""},
	} {
		dir := t.TempDir()
		if err := c.make(filepath.Join(dir, "progress")); err != nil {
			t.Fatal(err)
		}
		if got := lastProgress(dir); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Whatever a program writes, what we report is a fraction and short words.
func FuzzProgress(f *testing.F) {
	f.Add("0.42 decode message")
	f.Add(`{"fraction":0.42,"stage":"decode","message":"m"}`)
	f.Add("[75%] x")
	f.Add("Stage: x (67%)")
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func(string) (functions.Progress, bool){progressOfFile, progressOfLog} {
			p, ok := read(text)
			if ok && !(p.Fraction >= 0 && p.Fraction <= 1 && len(p.Stage) <= longestWord && len(p.Message) <= longestWord) {
				t.Errorf("%q = %+v", text, p)
			}
		}
	})
}
