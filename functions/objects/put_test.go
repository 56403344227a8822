package objects_test

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/functions/objects/objectstest"
)

// What Put allocates in all bounds what it can hold at once. About 22 MiB of it
// are the signatures of chunks; a stream's one part of 16 MiB is within the bound
// and a second is not, and a file's bound has room for none.
func TestPutHoldsLittleOfLargeContent(t *testing.T) {
	const size = 256 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(t *testing.T) *objects.Store{
		"embedded": func(t *testing.T) *objects.Store {
			return objectstest.Embedded(t, objectstest.EmbeddedOptions{}).New(t)
		},
		"embedded over TLS": func(t *testing.T) *objects.Store {
			return objectstest.Embedded(t, objectstest.EmbeddedOptions{TLS: true}).New(t)
		},
		"minio": func(t *testing.T) *objects.Store { return miniotest.Start(t, miniotest.Options{}).Store },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			if err := s.EnsureBucket(t.Context(), "large"); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				name string
				r    io.Reader
				size int64
				most functions.Bytes
			}{
				{"file", f, size, 32 << 20},
				{"stream of known size", struct{ io.Reader }{f}, size, 48 << 20},
				{"stream of unknown size", struct{ io.Reader }{f}, -1, 48 << 20},
			} {
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				ref, err := s.Put(t.Context(), "large", "object", c.r, c.size, "")
				runtime.ReadMemStats(&after)
				if err != nil || ref.Size != size {
					t.Fatalf("%s: put %d bytes: %v", c.name, ref.Size, err)
				}
				got := functions.Bytes(after.TotalAlloc - before.TotalAlloc)
				t.Logf("%s: %s allocated", c.name, got)
				if got > c.most {
					t.Errorf("%s: %s allocated, want at most %s", c.name, got, c.most)
				}
				if got, want := ref.SHA256, "a6d72ac7690f53be6ae46ba88506bd97302a093f7108472bd9efc3cefda06484"; got != want {
					t.Errorf("%s: SHA-256 is %s, want %s", c.name, got, want)
				}
			}
		})
	}
}
