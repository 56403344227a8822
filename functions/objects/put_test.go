package objects_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
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

// A store gives up the parts that it took when one of them fails, and the error
// is the part's.
func TestAFailedFileIsGivenUp(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(40 << 20); err != nil {
		t.Fatal(err)
	}
	var aborted, completed atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case r.Method == http.MethodPost && q.Has("uploads"):
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
		case r.Method == http.MethodPut && q.Get("partNumber") == "2":
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code></Error>")
		case r.Method == http.MethodPut:
			w.Header().Set("ETag", `"e"`)
		case r.Method == http.MethodDelete && q.Get("uploadId") == "u1":
			aborted.Add(1)
			w.WriteHeader(http.StatusNoContent)
		default:
			completed.Add(1)
		}
	}))
	defer srv.Close()
	_, err = newStore(t, srv.URL, "").Put(t.Context(), "uploads", "k", f, 40<<20, "")
	if !errors.Is(err, functions.ErrForbidden) {
		t.Errorf("got %v, want the refusal", err)
	}
	if aborted.Load() != 1 || completed.Load() != 0 {
		t.Errorf("aborted %d times, other requests %d; want 1 and 0", aborted.Load(), completed.Load())
	}
}

// SPILLWAY_TEST_LARGE=1 has an object larger than four-byte sizes and any cache
// of parts go in and out, which takes a while and 5 GiB of disk.
func TestAnObjectOfManyGiB(t *testing.T) {
	if os.Getenv("SPILLWAY_TEST_LARGE") != "1" {
		t.Skip("SPILLWAY_TEST_LARGE is not 1")
	}
	const size = 5 << 29 // 2.5 GiB
	in, err := os.Create(filepath.Join(t.TempDir(), "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.WriteAt([]byte("the end"), size-7); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s := objectstest.Embedded(t, objectstest.EmbeddedOptions{}).New(t)
	if err := s.EnsureBucket(t.Context(), "large"); err != nil {
		t.Fatal(err)
	}
	ref, err := s.Put(t.Context(), "large", "object", in, size, "")
	if err != nil || ref.Size != size {
		t.Fatalf("put %d bytes: %v", ref.Size, err)
	}
	if _, err := s.Stage(t.Context(), ref, out); err != nil { // compares the SHA-256
		t.Error(err)
	}
}
