package embedded_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/embedded"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/functions/objects/objectstest"
)

func TestMain(m *testing.M) { os.Exit(objectstest.Main(m)) }

// run starts a store in this process and returns how to end it.
func run(t *testing.T, c embedded.Config) (*objects.Store, string, func() error) {
	t.Helper()
	ready := make(chan struct{})
	c.Addr, c.AccessKey, c.SecretKey, c.Ready = miniotest.FreeAddr(t), "key", "secret-secret", ready
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- embedded.Run(ctx, c) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("run: %v", err)
	}
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	st, err := objects.New(objects.Config{Endpoint: "http://" + c.Addr, AccessKey: "key", SecretKey: "secret-secret", Embedded: true})
	if err != nil {
		t.Fatal(err)
	}
	return st, "http://" + c.Addr, stop
}

func TestEveryWayToMakeAnObjectIsReported(t *testing.T) {
	var mu sync.Mutex // guards seen
	var seen []string
	st, endpoint, _ := run(t, embedded.Config{Root: t.TempDir(), Created: func(_ context.Context, bucket, key, etag, version string) error {
		mu.Lock()
		defer mu.Unlock()
		if etag == "" || strings.Contains(etag, `"`) || version != "" {
			t.Errorf("reported %s with ETag %q, version %q", key, etag, version)
		}
		seen = append(seen, bucket+"/"+key)
		return errors.New("nobody may hear of this")
	}})
	ctx := t.Context()
	if err := st.EnsureBucket(ctx, "uploads"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(ctx, "uploads", "in/small", strings.NewReader("x"), 1, ""); err != nil {
		t.Errorf("put fails when its report does: %v", err)
	}
	if _, err := st.Put(ctx, "uploads", "in/parts", io.LimitReader(rand.Reader, 20<<20), -1, ""); err != nil {
		t.Error(err)
	}
	_, err := client(endpoint).CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("uploads"), Key: aws.String("in/copy"), CopySource: aws.String("uploads/in/small")})
	if err != nil {
		t.Error(err)
	}
	if _, err := st.Put(ctx, "uploads", "in/broken", iotestErr{}, 5<<20, ""); err == nil {
		t.Error("a broken upload succeeded")
	}
	mu.Lock()
	defer mu.Unlock()
	if got, want := strings.Join(seen, " "), "uploads/in/small uploads/in/parts uploads/in/copy"; got != want {
		t.Errorf("reported %q, want %q", got, want)
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errors.New("broken") }

func client(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint), Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret-secret", ""),
	})
}

func TestItStopsAndStartsAgainAndRunsOnce(t *testing.T) {
	root := t.TempDir()
	for round := range 3 {
		st, _, stop := run(t, embedded.Config{Root: root})
		if round == 0 {
			if err := st.EnsureBucket(t.Context(), "uploads"); err != nil {
				t.Fatal(err)
			}
		}
		key := fmt.Sprintf("k%d", round)
		if _, err := st.Put(t.Context(), "uploads", key, strings.NewReader(key), 2, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Stat(t.Context(), "uploads", "k0", ""); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		err := embedded.Run(t.Context(), embedded.Config{Root: t.TempDir(), Addr: miniotest.FreeAddr(t), AccessKey: "a", SecretKey: "b"})
		if !errors.Is(err, functions.ErrConflict) {
			t.Errorf("a second store: got %v, want conflict", err)
		}
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

func TestBadConfigurationAndTakenPortAreErrors(t *testing.T) {
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.1:0"} {
		err := embedded.Run(t.Context(), embedded.Config{Root: t.TempDir(), Addr: addr, AccessKey: "a", SecretKey: "b"})
		if !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%q: got %v, want invalid", addr, err)
		}
	}
	taken := objectstest.Embedded(t, objectstest.EmbeddedOptions{})
	err := embedded.Run(t.Context(), embedded.Config{
		Root: t.TempDir(), Addr: strings.TrimPrefix(taken.Endpoint, "http://"), AccessKey: "a", SecretKey: "b",
	})
	if err == nil {
		t.Error("a taken port is no error")
	}
}

func TestAbandonedUploadsAreRemovedAtStart(t *testing.T) {
	root := t.TempDir()
	st, endpoint, stop := run(t, embedded.Config{Root: root})
	if err := st.EnsureBucket(t.Context(), "uploads"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"old", "new"} {
		_, err := client(endpoint).CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("uploads"), Key: &key})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	uploads := func() []string {
		dirs, err := filepath.Glob(filepath.Join(root, "data", "uploads", ".sgwtmp", "multipart", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return dirs
	}
	before := uploads()
	if len(before) != 2 {
		t.Fatalf("there are %d uploads, want 2", len(before))
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(before[0], yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	_, _, stop = run(t, embedded.Config{Root: root})
	deadline := time.Now().Add(time.Minute)
	for len(uploads()) == 2 && time.Now().Before(deadline) {
		_ = st.Ready(t.Context())
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := uploads(); len(got) != 1 || got[0] != before[1] {
		t.Errorf("left are %q, want the new one alone", got)
	}
}

// A kill at any moment loses no object that was acknowledged, and leaves no half
// of one.
func TestKillLosesNothing(t *testing.T) {
	root := t.TempDir()
	acked := make(map[string]functions.ObjectRef)
	for round := range 3 {
		srv := objectstest.Embedded(t, objectstest.EmbeddedOptions{Root: root})
		st := srv.New(t)
		if err := st.EnsureBucket(t.Context(), "uploads"); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex // guards acked while writers run
		var wg sync.WaitGroup
		enough := make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		for w := range 8 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					data := make([]byte, 1000+37*i)
					_, _ = rand.Read(data)
					key := fmt.Sprintf("in/%d/%d-%d", round, w, i)
					ref, err := st.Put(ctx, "uploads", key, bytes.NewReader(data), int64(len(data)), "")
					if err != nil {
						return // the store is dead
					}
					mu.Lock()
					acked[key] = ref
					n := len(acked)
					mu.Unlock()
					if n >= (round+1)*150 {
						select {
						case enough <- struct{}{}:
						default:
						}
					}
				}
			})
		}
		select {
		case <-enough:
		case <-time.After(2 * time.Minute):
			t.Error("150 uploads took over two minutes")
		}
		srv.Kill()
		cancel()
		wg.Wait()
	}
	st := objectstest.Embedded(t, objectstest.EmbeddedOptions{Root: root}).New(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, ref := range acked {
		if err := errors.Join(f.Truncate(0), second(f.Seek(0, io.SeekStart))); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Stage(t.Context(), ref, f); err != nil { // compares the SHA-256
			t.Errorf("%s: %v", key, err)
		}
	}
	unasked := 0
	for ref, err := range st.List(t.Context(), "uploads", "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := acked[ref.Key]; !ok {
			unasked++ // stored, and its answer did not arrive: allowed
		}
	}
	t.Logf("%d acknowledged, all there; %d more stored without an answer", len(acked), unasked)
}

func second(_ int64, err error) error { return err }
