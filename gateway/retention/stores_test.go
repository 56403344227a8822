package retention

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/functions/objects/objectstest"
	"github.com/spillway/spillway/gateway/intake"
)

func TestEmbeddedStoreIsSwept(t *testing.T) {
	root := t.TempDir()
	sweepStore(t, objectstest.Embedded(t, objectstest.EmbeddedOptions{Root: root}).New(t))
	// Folders without files would make every later listing slower.
	folders, err := filepath.Glob(filepath.Join(root, "data", "uploads", "in", "*-*-*-*-*"))
	if err != nil || len(folders) != 2 {
		t.Errorf("%d folders of inputs are left, want those of 2 tasks: %v %v", len(folders), folders, err)
	}
}

func TestMinIOIsSwept(t *testing.T) {
	sweepStore(t, miniotest.Start(t, miniotest.Options{}).Store)
}

// real puts a real store in the world's place.
type real struct {
	*world
	st *objects.Store
}

func (r real) List(ctx context.Context, bucket, prefix, after string) iter.Seq2[functions.ObjectRef, error] {
	return r.st.List(ctx, bucket, prefix, after)
}

func (r real) Delete(ctx context.Context, ref functions.ObjectRef) error {
	return r.st.Delete(ctx, ref)
}

// sweepStore has a store hold the files of ended tasks, more than a page of its
// listing, and of some that must stay.
func sweepStore(t *testing.T, st *objects.Store) {
	for _, bucket := range []string{intake.Bucket, intake.Results} {
		if err := st.EnsureBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld()
	old := w.submit()
	w.run(old, exit1)
	for i := range 1030 {
		w.put(intake.Results, fmt.Sprintf("%s/1/frames/%04d.txt", old, i))
	}
	needed := w.submit()
	w.run(needed, nil)
	for range 20 {
		w.run(w.submit(), nil)
	}
	stay := map[string]bool{"results/notes.txt": true, "uploads/in/kept.txt": true}
	waiting := w.submit(inputOf(w.keys("results/"+string(needed), "/sub/b.txt")[0]))
	for _, k := range w.keys(string(waiting)) {
		stay[k] = true
	}
	for _, k := range w.keys("results/" + string(needed)) {
		stay[k] = !strings.HasSuffix(k, ".log.jsonl")
	}
	lost := w.newID()
	w.put(intake.Bucket, intake.InputKey(lost, "never accepted.bin"))
	w.put(intake.Results, "notes.txt")
	w.put(intake.Bucket, "in/kept.txt")
	w.now = w.now.Add(100 * time.Hour)
	w.put(intake.Bucket, intake.InputKey(w.newID(), "young.txt"))
	stay[w.keys("young.txt")[0]] = true

	puts, ctx := errgroup.WithContext(t.Context())
	puts.SetLimit(8)
	for path := range w.store {
		puts.Go(func() error {
			bucket, key, _ := strings.Cut(path, "/")
			_, err := st.Put(ctx, bucket, key, strings.NewReader(path), int64(len(path)), "text/plain")
			return err
		})
	}
	if err := puts.Wait(); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Tasks: w, Log: w, Objects: real{w, st}, Keep: limits, Rate: 100_000, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		sweepOf(t, r)
		w.now = w.now.Add(time.Hour)
	}
	left := map[string]bool{}
	for _, bucket := range []string{intake.Bucket, intake.Results} {
		for ref, err := range st.List(t.Context(), bucket, "", "") {
			if err != nil {
				t.Fatal(err)
			}
			left[bucket+"/"+ref.Key] = true
			if !stay[bucket+"/"+ref.Key] {
				t.Errorf("%s/%s is still there", bucket, ref.Key)
			}
		}
	}
	for path, must := range stay {
		if must && !left[path] {
			t.Errorf("%s is gone", path)
		}
	}
}
