package objects_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/functions/objects/objectstest"
)

func benchStores(b *testing.B, run func(b *testing.B, s *objects.Store)) {
	b.Run("store=embedded", func(b *testing.B) {
		run(b, objectstest.Embedded(b, objectstest.EmbeddedOptions{}).New(b))
	})
	b.Run("store=minio", func(b *testing.B) {
		run(b, miniotest.Start(b, miniotest.Options{}).Store)
	})
}

// BenchmarkPutSmall and BenchmarkGetSmall move 4 KiB with sixteen callers.
func BenchmarkPutSmall(b *testing.B) {
	benchStores(b, func(b *testing.B, s *objects.Store) {
		if err := s.EnsureBucket(b.Context(), "bench"); err != nil {
			b.Fatal(err)
		}
		data := make([]byte, 4096)
		var n atomic.Int64
		b.SetParallelism(8)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				key := fmt.Sprintf("k/%d", n.Add(1))
				if _, err := s.Put(context.Background(), "bench", key, bytes.NewReader(data), 4096, ""); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkGetSmall(b *testing.B) {
	benchStores(b, func(b *testing.B, s *objects.Store) {
		ref := benchObject(b, s, 4096)
		b.SetParallelism(8)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r, err := s.Get(context.Background(), ref)
				if err != nil {
					b.Error(err)
					return
				}
				var buf bytes.Buffer
				if _, err := buf.ReadFrom(r); err != nil || buf.Len() != 4096 {
					b.Errorf("%d bytes, %v", buf.Len(), err)
				}
				r.Close()
			}
		})
	})
}

func BenchmarkStage(b *testing.B) {
	benchStores(b, func(b *testing.B, s *objects.Store) {
		for _, size := range []int{64 << 10, 16 << 20, 128 << 20} {
			b.Run("size="+functions.Bytes(size).String(), func(b *testing.B) {
				ref := benchObject(b, s, size)
				b.SetBytes(int64(size))
				for b.Loop() {
					f, err := os.Create(filepath.Join(b.TempDir(), "f"))
					if err != nil {
						b.Fatal(err)
					}
					if _, err := s.Stage(b.Context(), ref, f); err != nil {
						b.Error(err)
					}
					f.Close()
					os.Remove(f.Name())
				}
			})
		}
	})
}

func benchObject(b *testing.B, s *objects.Store, size int) functions.ObjectRef {
	b.Helper()
	if err := s.EnsureBucket(b.Context(), "bench"); err != nil {
		b.Fatal(err)
	}
	ref, err := s.Put(b.Context(), "bench", "object", bytes.NewReader(make([]byte, size)), int64(size), "")
	if err != nil {
		b.Fatal(err)
	}
	return ref
}
