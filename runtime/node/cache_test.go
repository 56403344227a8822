package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

// shelf is a cache with a place for what it gives.
type shelf struct {
	*cache
	t     testing.TB
	group *sync.WaitGroup
	out   string
	made  int
	clock atomic.Int64 // Unix seconds
}

func newShelf(t testing.TB, dir string, budget functions.Bytes) *shelf {
	t.Helper()
	s := &shelf{t: t, group: &sync.WaitGroup{}, out: t.TempDir()}
	s.cache = newCache(filepath.Join(dir, "cache"), budget, slog.New(slog.DiscardHandler), s.tick, s.group, func(functions.Bytes) error { return nil })
	if err := s.open("this boot"); err != nil {
		t.Fatal(err)
	}
	return s
}

// tick is a clock that no two readings of are alike.
func (s *shelf) tick() time.Time {
	return time.Unix(s.clock.Add(1), 0)
}

func (s *shelf) target() string {
	s.made++
	return filepath.Join(s.out, fmt.Sprint(s.made))
}

// named is the identity of a test's content.
func named(name string) string {
	return identity(functions.ObjectRef{Bucket: "b", Key: name, ETag: "e"})
}

func says(text string) fetcher {
	return func(_ context.Context, f *os.File) error {
		_, err := f.WriteString(text)
		return err
	}
}

// want brings a content and checks it, and whether it had to be fetched.
func (s *shelf) want(name, text string, fetched bool) string {
	s.t.Helper()
	calls, target := 0, s.target()
	ok, err := s.bring(s.t.Context(), named(name), functions.Bytes(len(text)), target, func(ctx context.Context, f *os.File) error {
		calls++
		return says(text)(ctx, f)
	})
	if !ok || err != nil {
		s.t.Fatalf("bring %s = %t, %v", name, ok, err)
	}
	got, err := os.ReadFile(target)
	if err != nil || string(got) != text {
		s.t.Fatalf("%s is %.40q, %v; want %.40q", name, got, err, text)
	}
	if (calls == 1) != fetched {
		s.t.Fatalf("%s was fetched %d times, want fetched: %t", name, calls, fetched)
	}
	return target
}

// files lists what is in the cache's folder.
func (s *shelf) files() (names []string) {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != bootFile {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestIdentityIsOfOneContent(t *testing.T) {
	base := functions.ObjectRef{Bucket: "b", Key: "k", ETag: "e", VersionID: "v", Size: 3, SHA256: "s"}
	seen := map[string]string{}
	for name, ref := range map[string]functions.ObjectRef{
		"base":           base,
		"another bucket": {Bucket: "c", Key: "k", ETag: "e", VersionID: "v", Size: 3, SHA256: "s"},
		"another key":    {Bucket: "b", Key: "l", ETag: "e", VersionID: "v", Size: 3, SHA256: "s"},
		"another ETag":   {Bucket: "b", Key: "k", ETag: "f", VersionID: "v", Size: 3, SHA256: "s"},
		"a version":      {Bucket: "b", Key: "k", ETag: "e", VersionID: "w", Size: 3, SHA256: "s"},
		"another size":   {Bucket: "b", Key: "k", ETag: "e", VersionID: "v", Size: 4, SHA256: "s"},
		"another hash":   {Bucket: "b", Key: "k", ETag: "e", VersionID: "v", Size: 3, SHA256: "t"},
		"no version":     {Bucket: "b", Key: "k", ETag: "e", Size: 3, SHA256: "s"},
		"version alone":  {Bucket: "b", Key: "k", VersionID: "v", Size: 3},
		"quotes":         {Bucket: `b" "k`, ETag: "e", VersionID: "v", Size: 3, SHA256: "s"},
	} {
		id := identity(ref)
		if id == "" || !isIdentity(id) {
			t.Errorf("%s has identity %q", name, id)
		}
		if was, ok := seen[id]; ok {
			t.Errorf("%s and %s have one identity", name, was)
		}
		seen[id] = name
	}
	for name, ref := range map[string]functions.ObjectRef{
		"key alone":      {Bucket: "b", Key: "k", Size: 3},
		"no versions":    {Bucket: "b", Key: "k", VersionID: "null", Size: 3},
		"size not known": {Bucket: "b", Key: "k", ETag: "e", Size: functions.UnknownSize},
	} {
		if id := identity(ref); id != "" {
			t.Errorf("%s has identity %q: a later content would have it too", name, id)
		}
	}
}

func TestManyTasksFetchOnce(t *testing.T) {
	s := newShelf(t, t.TempDir(), functions.MiB)
	var calls atomic.Int32
	var group sync.WaitGroup
	targets := make([]string, 32)
	for i := range targets {
		targets[i] = s.target()
		group.Go(func() {
			ok, err := s.bring(t.Context(), named("x"), 5, targets[i], func(ctx context.Context, f *os.File) error {
				calls.Add(1)
				time.Sleep(time.Millisecond) // others come meanwhile
				return says("hello")(ctx, f)
			})
			if !ok || err != nil {
				t.Errorf("bring = %t, %v", ok, err)
			}
		})
	}
	group.Wait()
	s.group.Wait()
	if calls.Load() != 1 {
		t.Errorf("fetched %d times", calls.Load())
	}
	first, err := os.Stat(targets[0])
	if err != nil {
		t.Fatal(err)
	}
	if first.Mode() != 0o444 {
		t.Errorf("mode %v: the container could not read it, or its user could write", first.Mode())
	}
	for _, target := range targets {
		if info, err := os.Stat(target); err != nil || !os.SameFile(first, info) {
			t.Errorf("%s is not the cache's file: %v", target, err)
		}
	}
	if got, want := *s.info(), (functions.CacheInfo{Budget: functions.MiB, Used: block, Hits: 31, Misses: 1}); got != want {
		t.Errorf("the cache says %+v, want %+v", got, want)
	}
}

// A caller that goes does not take the fetch from those who wait with it; the last
// one does, and the next caller starts anew.
func TestCallersThatGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, t.TempDir(), functions.MiB)
		gone := errors.New("canceled by the user")
		var ended error // of the fetch's own context
		start := func(cause error) (leave func(), result chan error) {
			ctx, cancel := context.WithCancelCause(context.Background())
			result = make(chan error, 1)
			target := s.target()
			go func() {
				_, err := s.bring(ctx, named("x"), 5, target, func(ctx context.Context, f *os.File) error {
					timer := time.NewTimer(time.Minute)
					defer timer.Stop()
					select {
					case <-timer.C:
						return says("hello")(ctx, f)
					case <-ctx.Done():
						ended = ctx.Err()
						return ended
					}
				})
				result <- err
			}()
			synctest.Wait()
			return func() { cancel(cause) }, result
		}
		leaveFirst, first := start(gone)
		leaveSecond, second := start(gone)
		leaveFirst()
		if err := <-first; !errors.Is(err, gone) {
			t.Errorf("the first one's end is %v", err)
		}
		if err := <-second; err != nil {
			t.Errorf("the second one's: %v", err)
		}
		leaveSecond()
		if ended != nil {
			t.Errorf("the fetch ended with the first caller: %v", ended)
		}

		s.mu.Lock()
		s.forget(s.recent.Front())
		s.mu.Unlock()
		leaveThird, third := start(gone)
		leaveThird()
		if err := <-third; !errors.Is(err, gone) {
			t.Errorf("the third one's end is %v", err)
		}
		s.group.Wait()
		if !errors.Is(ended, context.Canceled) {
			t.Errorf("the fetch ended with %v though nobody waited", ended)
		}
		if info := s.info(); info.Used != 0 || len(s.files()) != 0 {
			t.Errorf("%s are in use, by %v", info.Used, s.files())
		}
		leaveFourth, fourth := start(gone)
		if err := <-fourth; err != nil {
			t.Errorf("a later caller's end is %v", err)
		}
		leaveFourth()
	})
}

func TestAFetchThatFailsFailsForAllAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, t.TempDir(), functions.MiB)
		broken := functions.Unavailable("store_down", "connection refused")
		var group sync.WaitGroup
		for range 3 {
			target := s.target()
			group.Go(func() {
				ok, err := s.bring(t.Context(), named("x"), 5, target, func(ctx context.Context, f *os.File) error {
					time.Sleep(time.Second)
					return errors.Join(says("hel")(ctx, f), broken)
				})
				if !ok || !errors.Is(err, functions.ErrUnavailable) {
					t.Errorf("bring = %t, %v", ok, err)
				}
			})
		}
		group.Wait()
		if len(s.files()) != 0 {
			t.Errorf("what was not fetched is kept: %v", s.files())
		}
		s.want("x", "hello", true)
		s.want("x", "hello", false)
	})
}

// The contents are those used last that fit, never more than the budget, and just
// they are on the disk; what was given to a task stays as it was.
func TestBudget(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		blocks := rapid.IntRange(1, 12).Draw(rt, "budget")
		s := newShelf(t, t.TempDir(), functions.Bytes(blocks)*block)
		var model []string // the one used last first
		texts, given := map[string]string{}, map[string]string{}
		for range rapid.IntRange(1, 40).Draw(rt, "uses") {
			size := rapid.IntRange(0, 5).Draw(rt, "size")
			name := fmt.Sprint("content of size ", size, ", ", rapid.IntRange(0, 2).Draw(rt, "name"))
			texts[name] = strings.Repeat(string(rune('a'+size)), size*int(block))
			need := max(size, 1)
			if need > blocks {
				target := s.target()
				ok, err := s.bring(rt.Context(), named(name), functions.Bytes(len(texts[name])), target, says(texts[name]))
				if ok || err != nil {
					rt.Fatalf("larger than the budget: %t, %v", ok, err)
				}
				continue
			}
			given[s.want(name, texts[name], !slices.Contains(model, name))] = texts[name]
			model = slices.DeleteFunc(model, func(n string) bool { return n == name })
			model = slices.Insert(model, 0, name)
			for used := 0; ; used = 0 {
				for _, n := range model {
					used += max(len(texts[n])/int(block), 1)
				}
				if used <= blocks {
					break
				}
				model = model[:len(model)-1]
			}
			var want []string
			for _, n := range model {
				want = append(want, named(n))
			}
			slices.Sort(want)
			if got := s.files(); !slices.Equal(got, want) {
				rt.Fatalf("the folder holds %d contents, want %d: %v", len(got), len(want), model)
			}
			if info := s.info(); info.Used > info.Budget {
				rt.Fatalf("%s are used of %s", info.Used, info.Budget)
			}
		}
		for target, text := range given {
			if got, err := os.ReadFile(target); err != nil || string(got) != text {
				rt.Fatalf("a task's input changed: %v", err)
			}
		}
	})
}

func TestNoRoomInTheBudgetWhileAllIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, t.TempDir(), 2*block)
		var group sync.WaitGroup
		slow := func(ctx context.Context, f *os.File) error {
			time.Sleep(time.Minute)
			return says("hello")(ctx, f)
		}
		for _, name := range []string{"x", "y"} {
			target := s.target()
			group.Go(func() {
				if ok, err := s.bring(t.Context(), named(name), 5, target, slow); !ok || err != nil {
					t.Errorf("bring = %t, %v", ok, err)
				}
			})
		}
		synctest.Wait()
		if ok, err := s.bring(t.Context(), named("z"), 5, s.target(), says("hello")); ok || err != nil {
			t.Errorf("bring = %t, %v: there was no room for it", ok, err)
		}
		group.Wait()
		s.want("z", "hello", true)
	})
}

func TestCacheOff(t *testing.T) {
	dir := t.TempDir()
	newShelf(t, dir, functions.MiB).want("x", "hello", true)
	s := newShelf(t, dir, 0)
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if ok, err := s.bring(t.Context(), named("x"), 0, s.target(), says("")); ok || err != nil {
		t.Errorf("bring = %t, %v", ok, err)
	}
	if s.info() != nil {
		t.Errorf("a cache that is off says %+v", s.info())
	}
}

func TestCacheAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := newShelf(t, dir, 3*block)
	for _, name := range []string{"x", "y", "z"} {
		s.want(name, name, true)
	}
	s.want("x", "x", false)
	for name, text := range map[string]string{named("w") + ".123.partial": "hel", "notes.txt": "?", named("folder") + "/x": "x"} {
		file := filepath.Join(s.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	again := newShelf(t, dir, 2*block) // y goes: it was used least recently
	want := []string{named("x"), named("z")}
	slices.Sort(want)
	if got := again.files(); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	again.want("x", "x", false)
	again.want("y", "y", true)
	again.want("x", "x", false)
	again.want("z", "z", true)
}

func TestCacheAfterAReboot(t *testing.T) {
	for name, forget := range map[string]func(boot string) error{
		"another boot": func(boot string) error { return os.WriteFile(boot, []byte("boot before"), 0o600) },
		"unknown boot": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newShelf(t, dir, functions.MiB)
			s.want("x", "hello", true)
			if err := forget(filepath.Join(s.dir, bootFile)); err != nil {
				t.Fatal(err)
			}
			again := newShelf(t, dir, functions.MiB)
			if len(again.files()) != 0 {
				t.Errorf("contents that were not synced are kept: %v", again.files())
			}
			again.want("x", "hello", true)
		})
	}
}

func TestCacheWithoutHardLinks(t *testing.T) {
	s := newShelf(t, t.TempDir(), functions.MiB)
	s.link = func(string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} }
	for i, target := range []string{s.want("x", "hello", true), s.want("x", "hello", false)} {
		info, err := os.Stat(target)
		if err != nil || links(info) != 1 || info.Mode() != 0o444 {
			t.Errorf("copy %d: %+v, %v", i, info, err)
		}
	}
	s.room = func(need functions.Bytes) error { return &roomError{free: 1, need: need, floor: 1} }
	_, err := s.bring(t.Context(), named("x"), 5, s.target(), says("hello"))
	if full, ok := errors.AsType[*roomError](err); !ok || full.need != 5 {
		t.Errorf("a copy that would fill the disk: %v", err)
	}
}

func TestCacheFilesThatOthersTouch(t *testing.T) {
	s := newShelf(t, t.TempDir(), functions.MiB)
	s.want("x", "hello", true)
	if err := os.Remove(s.file(named("x"))); err != nil {
		t.Fatal(err)
	}
	s.want("x", "hello", true)
	s.want("x", "hello", false)
	if err := os.Truncate(s.file(named("x")), 2); err != nil {
		t.Fatal(err)
	}
	s.want("x", "hello", true)
	if info := s.info(); info.Used != block {
		t.Errorf("%s are used", info.Used)
	}
	// Without its folder the cache does nothing, and nobody fails for it.
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y"} {
		if ok, err := s.bring(t.Context(), named(name), 5, s.target(), says("hello")); ok || err != nil {
			t.Errorf("bring %s = %t, %v", name, ok, err)
		}
	}
	if info := s.info(); info.Used != 0 {
		t.Errorf("%s are used by nothing", info.Used)
	}
}

// What a task is linked to gives no disk back, and stays.
func TestShrink(t *testing.T) {
	s := newShelf(t, t.TempDir(), functions.MiB)
	for _, name := range []string{"held", "old", "new"} {
		target := s.want(name, strings.Repeat("x", 10_000), true)
		if name != "held" {
			if err := os.Remove(target); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func() []string {
		is := map[string]string{named("held"): "held", named("old"): "old", named("new"): "new"}
		var names []string
		for _, f := range s.files() {
			names = append(names, is[f])
		}
		slices.Sort(names)
		return names
	}
	for _, step := range []struct {
		need functions.Bytes
		left []string
	}{{0, []string{"held", "new", "old"}}, {1, []string{"held", "new"}}, {functions.GiB, []string{"held"}}} {
		if s.shrink(step.need); !slices.Equal(left(), step.left) {
			t.Errorf("after shrinking by %s %v are left, want %v", step.need, left(), step.left)
		}
	}
	if info := s.info(); info.Used != 10_000 || info.Evicted != 2 {
		t.Errorf("the cache says %+v", info)
	}
}

// Many callers, few contents, a budget for some of them, and callers that go:
// whatever happens, who gets a content gets the right one, and the books balance.
func TestCacheUnderLoad(t *testing.T) {
	s := newShelf(t, t.TempDir(), 6*block)
	s.now = time.Now
	texts := map[string][]byte{}
	for i := range 8 {
		texts[fmt.Sprint(i)] = bytes.Repeat([]byte{byte(i)}, (i%3)*int(block)+i)
	}
	names := slices.Sorted(maps.Keys(texts))
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 60 {
				name := names[(worker*7+i*3+i/5)%len(names)]
				ctx, cancel := context.WithCancel(t.Context())
				if (worker+i)%5 == 0 {
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				target := filepath.Join(s.out, fmt.Sprint("w", worker, ".", i))
				ok, err := s.bring(ctx, named(name), functions.Bytes(len(texts[name])), target, func(ctx context.Context, f *os.File) error {
					if _, err := f.Write(texts[name]); err != nil {
						return err
					}
					return ctx.Err()
				})
				if ok && err == nil {
					if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, texts[name]) {
						t.Errorf("%s is wrong: %v", name, err)
					}
				} else if err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("bring %s: %v", name, err)
				}
				cancel()
			}
		})
	}
	group.Wait()
	s.group.Wait()
	var used functions.Bytes
	for at := s.recent.Front(); at != nil; at = at.Next() {
		e := at.Value.(*content)
		used += charge(e.size)
		if e.pins != 0 {
			t.Errorf("a content is pinned %d times by nobody", e.pins)
		}
	}
	if used != s.used || used > s.budget || len(s.flights) != 0 || len(s.files()) != len(s.entries) {
		t.Errorf("%s used, %s in the books, %d flights, %d files, %d contents", used, s.used, len(s.flights), len(s.files()), len(s.entries))
	}
}
