package objects_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/miniotest"
)

func newStore(t *testing.T, endpoint, public string) *objects.Store {
	t.Helper()
	s, err := objects.New(objects.Config{Endpoint: endpoint, PublicEndpoint: public, AccessKey: "key", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, endpoint := range []string{"", "127.0.0.1:9000", "ftp://host", "http://", "http://host/path", "http://u:p@host", "http://host?x=1"} {
		_, err := objects.New(objects.Config{Endpoint: endpoint, AccessKey: "a", SecretKey: "b"})
		if !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%q: got %v, want invalid", endpoint, err)
		}
	}
	if _, err := objects.New(objects.Config{Endpoint: "http://host"}); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("no keys: got %v, want invalid", err)
	}
}

func TestSigningNeedsNoNetworkAndNamesThePublicHost(t *testing.T) {
	s := newStore(t, "http://127.0.0.1:1", "https://s3.example.com")
	ref := functions.ObjectRef{Bucket: "uploads", Key: "in/1/a b.wav", Size: 10, ContentType: "audio/wav", SHA256: strings.Repeat("ab", 32)}
	p, err := s.PresignPut(t.Context(), ref, 15*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "https" || u.Host != "s3.example.com" || u.Path != "/uploads/in/1/a b.wav" {
		t.Errorf("signed for %s", u)
	}
	const signed = "content-length;content-type;host;if-none-match;x-amz-checksum-sha256"
	if got := u.Query().Get("X-Amz-SignedHeaders"); got != signed {
		t.Errorf("signed headers are %q, want %q", got, signed)
	}
	if left := time.Until(p.ExpiresAt); left < 14*time.Minute || left > 15*time.Minute {
		t.Errorf("it lives for %s", left)
	}
	for name, change := range map[string]func(*functions.ObjectRef) time.Duration{
		"no size":      func(r *functions.ObjectRef) time.Duration { r.Size = -1; return time.Minute },
		"bad hash":     func(r *functions.ObjectRef) time.Duration { r.SHA256 = "abc"; return time.Minute },
		"bad key":      func(r *functions.ObjectRef) time.Duration { r.Key = "../x"; return time.Minute },
		"lives long":   func(*functions.ObjectRef) time.Duration { return 8 * 24 * time.Hour },
		"is dead":      func(*functions.ObjectRef) time.Duration { return 0 },
		"no bucket":    func(r *functions.ObjectRef) time.Duration { r.Bucket = ""; return time.Minute },
		"leading dash": func(r *functions.ObjectRef) time.Duration { r.Bucket = "-ab"; return time.Minute },
	} {
		bad := ref
		ttl := change(&bad)
		if _, err := s.PresignPut(t.Context(), bad, ttl); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func TestSigningAPartAndAFormHasBounds(t *testing.T) {
	s := newStore(t, "http://127.0.0.1:1", "https://s3.example.com")
	ref := functions.ObjectRef{Bucket: "uploads", Key: "in/1/a b.wav"}
	p, err := s.PresignPart(t.Context(), ref, "id", 10_000, 5<<30, strings.Repeat("ab", 32), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if got, want := q.Get("X-Amz-SignedHeaders"), "content-length;host;x-amz-checksum-sha256"; got != want {
		t.Errorf("signed headers are %q, want %q", got, want)
	}
	if u.Host != "s3.example.com" || q.Get("partNumber") != "10000" || q.Get("uploadId") != "id" {
		t.Errorf("signed for %s", u)
	}
	for _, c := range []struct {
		number int
		size   int64
		sum    string
		ttl    time.Duration
	}{{0, 1, "", time.Minute}, {10_001, 1, "", time.Minute}, {1, 0, "", time.Minute}, {1, 5<<30 + 1, "", time.Minute},
		{1, 1, "ab", time.Minute}, {1, 1, "", 0}} {
		if _, err := s.PresignPart(t.Context(), ref, "id", c.number, c.size, c.sum, c.ttl); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("part %+v: got %v, want invalid", c, err)
		}
	}
	f, err := s.PresignPost(t.Context(), ref, 0, 5<<30, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if f.URL != "https://s3.example.com/uploads/" || f.Fields["key"] != ref.Key || f.Fields["Content-Type"] != "application/octet-stream" {
		t.Errorf("the form is %+v", f)
	}
	for _, c := range []struct {
		least, most int64
		ttl         time.Duration
	}{{-1, 1, time.Minute}, {0, 0, time.Minute}, {2, 1, time.Minute}, {1, 5<<30 + 1, time.Minute}, {1, 2, 0}, {1, 2, 8 * 24 * time.Hour}} {
		if _, err := s.PresignPost(t.Context(), ref, c.least, c.most, c.ttl); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("form %+v: got %v, want invalid", c, err)
		}
	}
}

func TestADeadStoreIsNoticedSoon(t *testing.T) {
	s := newStore(t, "http://"+miniotest.FreeAddr(t), "")
	ref := functions.ObjectRef{Bucket: "uploads", Key: "k", ETag: "e", Size: 64 << 20}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for name, call := range map[string]func(context.Context) error{
		"ready": s.Ready,
		"stage": func(ctx context.Context) error { _, err := s.Stage(ctx, ref, f); return err },
		"put": func(ctx context.Context) error {
			_, err := s.Put(ctx, "uploads", "k", strings.NewReader("x"), 1, "")
			return err
		},
		"list": func(ctx context.Context) error {
			for _, err := range s.List(ctx, "uploads", "", "") {
				return err
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := call(ctx)
			if !errors.Is(err, functions.ErrUnavailable) {
				t.Errorf("got %v, want unavailable", err)
			}
			if ctx.Err() != nil {
				t.Error("it took the whole deadline")
			}
		})
	}
}

func TestAStoreThatHangsIsUnavailableAtTheDeadline(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	s := newStore(t, srv.URL, "")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Stat(ctx, "uploads", "k", ""); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Stat(ctx, "uploads", "k", ""); !errors.Is(err, context.Canceled) || errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("canceled: got %v, want canceled alone", err)
	}
}

func TestAnswersHaveTheirClass(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   error
	}{
		{404, "NoSuchKey", functions.ErrNotFound},
		{404, "NoSuchBucket", functions.ErrNotFound},
		{405, "MethodNotAllowed", functions.ErrNotFound},
		{412, "PreconditionFailed", functions.ErrConflict},
		{409, "OperationAborted", functions.ErrConflict},
		{403, "AccessDenied", functions.ErrForbidden},
		{403, "SignatureDoesNotMatch", functions.ErrForbidden},
		{400, "BadDigest", functions.ErrInvalid},
		{400, "EntityTooLarge", functions.ErrTooLarge},
		{416, "InvalidRange", functions.ErrInvalid},
		{501, "NotImplemented", functions.ErrUnavailable},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte("<Error><Code>" + c.code + "</Code><Message>m</Message></Error>"))
		}))
		_, err := newStore(t, srv.URL, "").Get(t.Context(), functions.ObjectRef{Bucket: "uploads", Key: "k"})
		srv.Close()
		if !errors.Is(err, c.want) {
			t.Errorf("%d %s: got %v, want %v", c.status, c.code, err, c.want)
		}
	}
}

// A key that Put accepts is one that the embedded store keeps below its bucket's
// folder.
func TestAcceptedKeysStayInTheirBucket(t *testing.T) {
	s := newStore(t, "http://127.0.0.1:1", "")
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a./\\\x00-\x20]{0,12}`)).Draw(t, "key")
		_, err := s.PresignPut(context.Background(), functions.ObjectRef{Bucket: "uploads", Key: key}, time.Minute)
		if err != nil {
			if !errors.Is(err, functions.ErrInvalid) {
				t.Fatalf("%q: got %v, want invalid", key, err)
			}
			return
		}
		if !filepath.IsLocal(key) || filepath.Clean(key) != key || strings.ContainsRune(key, 0) {
			t.Fatalf("%q was accepted", key)
		}
	})
}
