package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
)

func TestPartsOfAnySizeKeepTheStoresBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, maxMultipart).Draw(t, "size")
		m := functions.Multipart{PartSize: partSize(size)}
		n := m.Parts(size)
		var sum int64
		for i := range n {
			sum += m.Length(size, i+1)
		}
		if m.PartSize%(1<<20) != 0 || m.PartSize < 16<<20 || m.PartSize > 5<<30 || n < 1 || n > aimedParts || sum != size {
			t.Fatalf("%d bytes: %d parts of %d, %d bytes together", size, n, m.PartSize, sum)
		}
		if m.Length(size, 0) != 0 || m.Length(size, n+1) != 0 || m.Length(size, n) == 0 {
			t.Fatalf("%d bytes: part 0, the last or one behind it has a wrong length", size)
		}
	})
	for size, want := range map[int64]int64{1: 16 << 20, 9000 * 16 << 20: 16 << 20, 9000*16<<20 + 1: 17 << 20, maxMultipart: 583 << 20} {
		if got := partSize(size); got != want {
			t.Errorf("%d bytes: parts of %d, want %d", size, got, want)
		}
	}
}

// Of whatever the store holds, exactly the parts that fit count, and what is
// named as missing is exactly the rest.
func TestMissingPartsAreThoseThatDoNotFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 40).Draw(t, "size")
		m := &functions.Multipart{PartSize: rapid.Int64Range(1, 9).Draw(t, "part size"), Checksums: rapid.Bool().Draw(t, "checksums")}
		good := map[int]bool{}
		var held []functions.Part
		for n := range 45 {
			p := functions.Part{Number: n, Size: m.Length(size, n), SHA256: "s"}
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				continue
			case 1:
				p.Size++
			case 2:
				p.SHA256 = ""
			}
			held = append(held, p)
			good[n] = n >= 1 && n <= m.Parts(size) && p.Size == m.Length(size, n) && (p.SHA256 != "" || !m.Checksums)
		}
		var absent []string
		for n := 1; n <= m.Parts(size); n++ {
			if !good[n] {
				absent = append(absent, fmt.Sprint(n))
			}
		}
		want := strings.Join(absent[:min(10, len(absent))], ", ")
		if n := len(absent) - 10; n > 0 {
			want += fmt.Sprintf(" and %d more", n)
		}
		fit := fitting(m, size, held)
		if got := missing(m, size, fit); got != want {
			t.Fatalf("missing %q, want %q", got, want)
		}
		if !slices.IsSortedFunc(fit, func(a, b functions.Part) int { return a.Number - b.Number }) {
			t.Fatalf("not in order: %v", fit)
		}
	})
}

// An upload is looked for again before its age has grown by a seventh, at the
// latest, and all in all not often.
func TestOldUploadsAreLookedForLessOften(t *testing.T) {
	const day = 24 * time.Hour
	rapid.Check(t, func(t *rapid.T) {
		looks, last := 0, time.Duration(0)
		for age := time.Duration(rapid.Int64Range(0, int64(sweepEvery)).Draw(t, "first")); age < day; {
			since := sweepEvery + time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "late"))
			if due(age, since) {
				looks, last = looks+1, age
			}
			if age-last > max(sweepEvery, age/7) {
				t.Fatalf("not looked for from %s to %s", last, age)
			}
			age += sweepEvery
		}
		if looks > 100 {
			t.Fatalf("looked for %d times in a day", looks)
		}
	})
	if !due(day, 1<<62) {
		t.Error("the first sweep passes over an old upload")
	}
}

func TestFormTarget(t *testing.T) {
	for address, want := range map[string]string{
		"https://s3.example.org/uploads":           "https://s3.example.org",
		"http://127.0.0.1:8081/uploads":            "http://127.0.0.1:8081",
		"http://[::1]:8081/uploads":                "http:",
		"javascript:alert(1)":                      "'none'",
		"https://a.example;script-src/x":           "https:",
		"://":                                      "'none'",
		"http://store.example/uploads?x=1;y=https": "http://store.example",
	} {
		if got := formTarget(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
