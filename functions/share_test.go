package functions

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestSharedFile(t *testing.T) {
	for _, c := range []struct{ file, share, rel string }{
		{"media/a.wav", "media", "a.wav"},
		{"media/dir/ä b.wav", "media", "dir/ä b.wav"},
		{"m-1/..a/b..", "m-1", "..a/b.."},
		{"media", "", ""}, {"media/", "", ""}, {"/media/a", "", ""}, {"", "", ""}, {"media//a", "", ""},
		{"media/../a", "", ""}, {"media/..", "", ""}, {"media/a/../../b", "", ""}, {"media/./a", "", ""}, {"media/.", "", ""},
		{"media/a/", "", ""}, {"../media/a", "", ""}, {"me dia/a", "", ""}, {"media/a\nb", "", ""}, {"media/\xff", "", ""},
		{"media/" + strings.Repeat("a", 5000), "", ""},
	} {
		share, rel, err := SharedFile(c.file)
		if share != c.share || rel != c.rel || (err != nil) != (c.share == "") || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%.40q: %q %q %v", c.file, share, rel, err)
		}
	}
}

func FuzzSharedFile(f *testing.F) {
	for _, s := range []string{"media/a.wav", "media/../a", "a//b", "m/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		share, rel, err := SharedFile(s)
		if err != nil {
			return
		}
		if share+"/"+rel != s || path.Join("/root", rel) != "/root/"+rel {
			t.Errorf("%q: %q %q", s, share, rel)
		}
	})
}

func TestSharesOfInputs(t *testing.T) {
	in := []Input{{File: "b/1"}, {URL: "http://x/y"}, {File: "a/1"}, {File: "b/2"}, {Name: "x"}}
	if got := Shares(in); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v", got)
	}
	if got := Shares(in[1:2]); got != nil {
		t.Errorf("%v", got)
	}
}
