package framelog

import (
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// word is a writer that says when something came.
type word chan struct{}

func (w word) Write(p []byte) (int, error) {
	w <- struct{}{}
	return len(p), nil
}

// BenchmarkFollow is how long a line takes through a log to its follower.
func BenchmarkFollow(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log")
	w, err := Create(path, 8<<20)
	if err != nil {
		b.Fatal(err)
	}
	came, done := make(word, 1), make(chan error, 1)
	ctx := within(b)
	go func() {
		_, err := Follow(ctx, path, came, nil, nil)
		done <- err
	}()
	line := []byte("a line of output, as programs write them\n")
	for b.Loop() {
		if err := w.Write(wire.KindStdout, line); err != nil {
			b.Fatal(err)
		}
		<-came
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
