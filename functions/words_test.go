package functions

import (
	"encoding/json"
	"errors"
	"math"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestRouteDecide(t *testing.T) {
	for _, c := range []struct {
		kind   string
		policy Policy
		class  ContentClass
		want   Device
		says   string
	}{
		{"audio/wav", Auto, Audio, GPU, "audio"},
		{"video/mp4", Auto, Video, GPU, "video"},
		{"image/png", Auto, Image, GPU, "image"},
		{"application/pdf", Auto, Document, CPU, "application/pdf"},
		{"text/plain; charset=utf-8", Auto, Document, CPU, "text/plain"},
		{"APPLICATION/PDF", "", Document, CPU, "auto"},
		{"application/json", Auto, Data, CPU, "does not gain"},
		{"", Auto, "", CPU, "no content"},
		{"audio/wav", Never, Audio, CPU, "never"},
		{"application/pdf", Preferred, Document, GPU, "preferred"},
		{"application/pdf", Required, Document, GPU, "required"},
		{"", Required, "", GPU, "required"},
		{"text/plain", Fastest, Document, GPU, "fastest"},
		{"nonsense", Auto, Data, CPU, "nonsense"},
	} {
		got := Route{ContentType: c.kind, Policy: c.policy}.Decide()
		if got.Device != c.want || got.Class != c.class || !strings.Contains(got.Reason, c.says) || got.Policy == "" {
			t.Errorf("%q under %q: got %+v", c.kind, c.policy, got)
		}
	}
}

func TestPolicyAndNames(t *testing.T) {
	for _, p := range []Policy{Required, Preferred, Auto, Fastest, Never} {
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
	if Policy("").Validate() == nil || Policy("GPU").Validate() == nil {
		t.Error("a wrong policy is allowed")
	}
	for name, ok := range map[string]bool{
		"a": true, "A-b_9": true, strings.Repeat("x", 64): true,
		"": false, "-a": false, "_a": false, "a.b": false, "a/b": false, "a b": false, "a\n": false, "é": false, strings.Repeat("x", 65): false,
	} {
		if err := Name(name).Validate(); (err == nil) != ok {
			t.Errorf("function name %q: %v", name, err)
		}
		if err := NodeID(name).Validate(); (err == nil) != ok {
			t.Errorf("node name %q: %v", name, err)
		}
	}
	for id, ok := range map[string]bool{string(id1): true, strings.ToUpper("0192abcd-0000-7000-8000-000000000001"): false, "": false, string(id1) + "\n": false, "../" + string(id1): false} {
		if err := TaskID(id).Validate(); (err == nil) != ok {
			t.Errorf("task id %q: %v", id, err)
		}
	}
}

func TestClasses(t *testing.T) {
	all := []Class{GPUHost, GPUDevice, GPUImage, GPUUnknown, GPUHung, GPUMemory, GPULost, GPUMissing, GPUUnsuited, Declined,
		ExitError, Permanent, TempFail, BadEntry, OutOfMemory, Crashed, TimedOutRun, DiskExceeded, BadOutput, ImageMissing,
		Infra, InputGone, Store, NodeLost, Refused, CanceledByUser, QueueExpired, UploadExpired}
	for i, c := range all {
		if got := c.GPULaunch(); got != (i < 5) {
			t.Errorf("%s: GPULaunch %v", c, got)
		}
		if got := c.GPUFault(); got != (i < 10) {
			t.Errorf("%s: GPUFault %v", c, got)
		}
		if got, want := c.Platform(), slices.Contains([]Class{Infra, Store, NodeLost, Refused}, c); got != want {
			t.Errorf("%s: Platform %v", c, got)
		}
		if slices.Contains(all[:i], c) {
			t.Errorf("%s is there twice", c)
		}
	}
}

func TestFileAndOutputNames(t *testing.T) {
	for _, c := range []struct {
		name         string
		file, output bool
	}{
		{"speech.wav", true, true},
		{"наступление 文 é.pdf", true, true},
		{".hidden", true, true},
		{"..a", true, true},
		{"-rf", true, true},
		{strings.Repeat("x", 255), true, true},
		{"a/b.txt", false, true},
		{"a/b/../c", false, false},
		{"", false, false},
		{".", false, false},
		{"..", false, false},
		{"../etc/passwd", false, false},
		{"a/../../b", false, false},
		{"/etc/passwd", false, false},
		{"a//b", false, false},
		{"a/", false, false},
		{"./a", false, false},
		{"a\\b", false, false},
		{"a\x00b", false, false},
		{"a\nb", false, false},
		{"a\x7f", false, false},
		{"a\xffb", false, false},
		{strings.Repeat("x", 300), false, false},
		{strings.Repeat("é", 128), false, false},
		{strings.Repeat("abcd/", 200) + "x", false, false},
	} {
		if err := FileName(c.name); (err == nil) != c.file {
			t.Errorf("file %q: %v", c.name, err)
		} else if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("file %q: %v has no class", c.name, err)
		}
		if err := OutputName(c.name); (err == nil) != c.output {
			t.Errorf("output %q: %v", c.name, err)
		}
	}
}

func FuzzOutputName(f *testing.F) {
	for _, s := range []string{"a/b", "../x", "/x", "a\x00", "..", "a/./b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if OutputName(name) != nil {
			return
		}
		joined := path.Join("/out", name)
		if joined != "/out/"+name || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\n\\") {
			t.Fatalf("%q leaves its folder or is not a name: %s", name, joined)
		}
	})
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "1": 1, "512MiB": 512 * MiB, " 1.5 GiB ": GiB + 512*MiB, "1kB": 1000, "1KB": 1000, "2TB": 2e12, "7B": 7,
		"9007199254740993": 9007199254740993, // not a float
	} {
		if got, err := ParseBytes(text); got != want || err != nil {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "NaN", "Inf", "1e30", "12 parsecs", "1 2", "9223372036854775807", "99999999TiB"} {
		if got, err := ParseBytes(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"512MiB", "1.5GiB", "1e3", "0x10", "-0", "1_000", strings.Repeat("9", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseBytes(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || len(err.Error()) > 500 {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if b < 0 || b > math.MaxInt64/2 {
			t.Fatalf("%q is %d", s, b)
		}
		text, _ := b.MarshalText()
		if back, err := ParseBytes(string(text)); back != b || err != nil {
			t.Fatalf("%d became %s and then %d, %v", b, text, back, err)
		}
	})
}

func TestUnitsAsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := struct {
			B Bytes
			D Duration
		}{Bytes(rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "bytes")), Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "duration"))}
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		out := in
		out.B, out.D = 1, 1
		if err := json.Unmarshal(text, &out); err != nil || out != in {
			t.Fatalf("%+v became %s and then %+v, %v", in, text, out, err)
		}
	})
	var d Duration
	for _, s := range []string{"", "5", "-1s", "1 fortnight"} {
		if err := d.UnmarshalText([]byte(s)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if err := d.UnmarshalText([]byte(" 1m30s ")); err != nil || d.Std() != 90*time.Second || d.String() != "1m30s" {
		t.Errorf("got %v, %v", d, err)
	}
	for b, want := range map[Bytes]string{0: "0B", 1500: "1500B", 512 * MiB: "512MiB", 10*GiB + 1: "10.0GiB"} {
		if got := b.String(); got != want {
			t.Errorf("%d: got %s, want %s", int64(b), got, want)
		}
	}
}

func TestErrorCarriesClassAndCause(t *testing.T) {
	cause := errors.New("disk on fire")
	err := Unavailable("down", "the store does not answer").WithHint("wait %d s", 5).WithField("x").WithCause(cause)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, cause) || err.Hint != "wait 5 s" || err.Field != "x" || !strings.Contains(err.Error(), "fire") {
		t.Errorf("got %+v", err)
	}
	plain := Conflict("c", "m")
	if changed := plain.WithHint("h"); plain.Hint != "" || changed.Hint != "h" || errors.Is(plain, cause) || plain.Error() != "m" {
		t.Error("WithHint changed its receiver")
	}
}

func TestResources(t *testing.T) {
	a, b := Resources{1000, GiB, 2}, Resources{500, MiB, 1}
	if !b.Fits(a) || a.Fits(b) || a.Add(b).Sub(b) != a {
		t.Error("arithmetic is wrong")
	}
	for _, over := range []Resources{{1001, 0, 0}, {0, GiB + 1, 0}, {0, 0, 3}} {
		if over.Fits(a) {
			t.Errorf("%+v fits into %+v", over, a)
		}
	}
}
