package store

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/registrytest"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Minute) // each look is later than the one before
	return c.now
}

func present(t testing.TB, s *Store, ref string) bool {
	t.Helper()
	_, err := s.Image(t.Context(), ref)
	if err != nil && !errors.Is(err, functions.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestTheLeastRecentlyUsedMakesRoom(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	clock := &clock{now: time.Unix(1e9, 0)}
	s := open(t, r, func(c *Config) { c.Budget, c.Now = 10*functions.MiB, clock.Now })
	push := func(name string) string { return r.Push(t, name, imageOf(t, v1.Config{}, noise(t, name, 3<<20))) }
	a, b, c, d := push("a:1"), push("b:1"), push("c:1"), push("d:1")
	mustPull(t, s, a, b, c)
	_, release, err := s.Layers(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	mustPull(t, s, c, a) // b is the oldest, and leased; then c
	mustPull(t, s, d)
	if !present(t, s, a) || !present(t, s, b) || present(t, s, c) || !present(t, s, d) {
		t.Errorf("present: a %v, b %v, c %v, d %v", present(t, s, a), present(t, s, b), present(t, s, c), present(t, s, d))
	}
	huge := r.Push(t, "huge:1", imageOf(t, v1.Config{}, noise(t, "huge", 11<<20)))
	if err := s.Pull(t.Context(), huge, nil); !errors.Is(err, functions.ErrTooLarge) {
		t.Errorf("pulling what does not fit: %v", err)
	}
	nothingHalf(t, s)
	release()
	mustPull(t, s, c)
	s.cfg.Budget = 4 * functions.MiB
	freed, err := s.GC(t.Context())
	if err != nil || freed < 6*functions.MiB {
		t.Errorf("GC = %s, %v", freed, err)
	}
	if !present(t, s, c) || present(t, s, a) || present(t, s, b) || present(t, s, d) {
		t.Error("GC kept another image than the one used last")
	}
	if freed, err = s.GC(t.Context()); freed != 0 || err != nil {
		t.Errorf("GC when nothing is over = %s, %v", freed, err)
	}
}

// A small layer may claim to be any size.
func TestBombsStopAtTheBudget(t *testing.T) {
	const size = 64 << 20
	s := open(t, nil, func(c *Config) { c.Budget = 20 * functions.MiB })
	zeros := bytes.Repeat([]byte{0}, 1<<20)
	for name, content := range map[string]func() []byte{
		"one file of zeros": func() []byte {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			head := tarOf(t, file("bomb", ""))[:512]
			copy(head[124:136], "00400000000\x00") // its size, 64 MiB in octal
			copy(head[148:156], "        ")
			sum := 0
			for _, c := range head {
				sum += int(c)
			}
			copy(head[148:156], strings.ToLower(octal(sum)))
			w.Write(head)
			for range size >> 20 {
				w.Write(zeros)
			}
			w.Close()
			return b.Bytes()
		},
		"many empty files": func() []byte {
			var files []entry
			for i := range 6000 {
				files = append(files, file("f"+octal(i)[:6], ""))
			}
			return tarOf(t, files...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bomb := content()
			l := &fetching{diffID: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}, open: opener(bomb)}
			if err := s.fetchLayer(t.Context(), l, func(functions.Bytes) {}); !errors.Is(err, functions.ErrTooLarge) {
				t.Errorf("fetch of %d bytes = %v, want too large", len(bomb), err)
			}
			nothingHalf(t, s)
			if s.pending != 0 {
				t.Errorf("%s are still booked", s.pending)
			}
		})
	}
	left, err := os.ReadDir(s.path("layers"))
	if err != nil || len(left) > 0 {
		t.Errorf("layers: %v %v", left, err)
	}
}
