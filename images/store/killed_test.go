package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spillway/spillway/images/registrytest"
)

// What a child of the test is to pull, again and again, and where to.
const (
	pullerDir = "SPILLWAY_TEST_PULL_DIR"
	pullerRef = "SPILLWAY_TEST_PULL_REF"
)

// pullForEver pulls an image and removes it, until it is killed.
func pullForEver(dir, ref string) int {
	s, err := Open(Config{Dir: dir})
	for err == nil {
		if err = s.Pull(context.Background(), ref, nil); err == nil {
			err = s.RemoveImage(context.Background(), ref)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestKilledAtAnyMoment kills a process that pulls and removes, and looks whether
// every layer, image and name is whole or not there.
func TestKilledAtAnyMoment(t *testing.T) {
	needsRoot(t)
	r := registrytest.New(t, registrytest.Config{})
	var files []entry
	for i := range 300 {
		files = append(files, file(fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprint(i)))
	}
	many := tarOf(t, files...)
	ref := r.Push(t, "a:1", imageOf(t, v1.Config{}, many, noise(t, "b", 200_000), noise(t, "c", 10)))
	dir := filepath.Join(t.TempDir(), "images")
	asked := func() (n int) { // for blobs
		for _, times := range r.Fetched() {
			n += times
		}
		return n
	}
	whole := 0
	for round := range 8 {
		before := asked()
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), pullerDir+"="+dir, pullerRef+"="+ref)
		child.Stderr = t.Output()
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// Half of them are killed in their work, however long they take to come to it.
		for limit := time.Now().Add(time.Minute); round%2 == 0 && asked() == before && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50*time.Millisecond + time.Duration(rand.IntN(700))*time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err == nil || child.ProcessState.ExitCode() != -1 {
			t.Fatalf("the child ended by itself: %v", err)
		}
		s := open(t, r, func(c *Config) { c.Dir = dir })
		nothingHalf(t, s)
		layers, err := os.ReadDir(s.path("layers"))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			first, err := os.ReadDir(s.path("layers", l.Name(), "fs"))
			if err != nil || len(first) == 0 {
				t.Errorf("layer %s: %v %v", l.Name(), first, err)
			}
			if len(first) > 1 && len(first) != 7 {
				t.Errorf("layer %s has %d folders of 7", l.Name(), len(first))
			}
			for _, f := range first {
				whole++
				if inside, err := os.ReadDir(s.path("layers", l.Name(), "fs", f.Name())); f.IsDir() && (err != nil || len(inside) < 42) {
					t.Errorf("%s of layer %s has %d files: %v", f.Name(), l.Name(), len(inside), err)
				}
			}
		}
		if _, err := s.Image(t.Context(), ref); err == nil {
			dirs, release, err := s.Layers(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range dirs {
				if _, err := os.Stat(d); err != nil {
					t.Errorf("an image without its layer: %v", err)
				}
			}
			release()
		}
		mustPull(t, s, ref)
		if err := s.RemoveImage(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if whole == 0 {
		t.Error("no layer was whole at any time")
	}
}
