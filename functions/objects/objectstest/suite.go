package objectstest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
)

// Row is one behaviour that Spillway relies on.
type Row string

// Rows that some store lacks.
const (
	RowFolderAndObject Row = "keys p and p/q live together"
	RowNamesAlike      Row = "names do not lead to a bucket whose name begins alike"
	RowNotifications   Row = "notification rules are merged and foreign ones kept"
)

// gaps lists what each kind of store is known to lack. A failure that is not
// here fails the suite, and so does a row here that passes.
var gaps = map[Kind][]Row{
	KindEmbedded:    {RowFolderAndObject, RowNotifications},
	KindEmbeddedTLS: {RowFolderAndObject, RowNotifications},
	KindMinIO:       {RowNamesAlike}, // a batch delete of ../bucket-x/key removes it, and its bucket when that was all
}

// bench is what a row works with: one bucket of its own, and three clients.
type bench struct {
	srv    *Server
	store  *objects.Store
	aws    *s3.Client
	http   *http.Client
	bucket string

	cliHome string // of the AWS command line: its settings, and its files by their bare names

	t *testing.T // for folders and logs; a row fails by its error alone
}

type check func(ctx context.Context, b *bench) error

// Suite runs every row against the server, with three clients: ours, the AWS SDK
// and the AWS command line. The last needs a program, see needCLI.
func Suite(t *testing.T, srv *Server) {
	store := srv.New(t)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs = srv.RootCAs
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	second := s3.New(s3.Options{
		BaseEndpoint: aws.String(srv.Endpoint), Region: "us-east-1", UsePathStyle: true, HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider(srv.accessKey(), srv.secretKey(), ""),
	})
	run := func(t *testing.T, r namedCheck) {
		missing := slices.Contains(gaps[srv.Kind], r.name)
		b := &bench{srv: srv, store: store, aws: second, http: client, bucket: "t-" + strings.ToLower(rand.Text()), cliHome: t.TempDir(), t: t}
		err := store.EnsureBucket(t.Context(), b.bucket)
		if err == nil {
			err = r.run(t.Context(), b)
		}
		switch {
		case err != nil && missing:
			t.Skipf("known gap of %s: %v", srv.Kind, err)
		case err != nil:
			t.Error(err)
		case missing:
			t.Errorf("%s can do this now: remove it from the known gaps", srv.Kind)
		}
	}
	for _, r := range slices.Concat(rows(), awsRows()) {
		t.Run(string(r.name), func(t *testing.T) { run(t, r) })
	}
	if srv.WithoutCLI {
		return
	}
	t.Run("awscli", func(t *testing.T) {
		needCLI(t)
		for _, r := range cliRows() {
			t.Run(string(r.name), func(t *testing.T) {
				t.Parallel() // most of a call is the program's start
				run(t, r)
			})
		}
	})
}

type namedCheck struct {
	name Row
	run  check
}

func rows() []namedCheck {
	return []namedCheck{
		{"a wrong secret and no key are refused", wrongKey},
		{"making a bucket twice is no error", bucketTwice},
		{"what is put is what is got", putGet},
		{"an empty object leaves the connection usable", emptyThenMore},
		{"ranges: middle, tail, all; behind the end is invalid", ranges},
		{"a look at the head says what stat says, whatever size it expects", heads},
		{"a stream of unknown size arrives whole", unknownSize},
		{"a large file arrives whole, from where it stands, or not at all", putFile},
		{"a source that fails stores nothing", failingSource},
		{"a body shorter than its size stores nothing", shortBody},
		{"staging a small and a large object gives their SHA-256", stage},
		{"staging a replaced object is a conflict, a gone one not found", stageChanged},
		{"what is missing is not found", missing},
		{"delete twice", deleteTwice},
		{"listing: prefix, start-after, paging, odd keys", list},
		{"listing since a time", listSince},
		{RowFolderAndObject, folderAndObject},
		{"versions: each can be read and all are listed", versions},
		{"signed PUT takes exactly what was signed, once", signedPut},
		{"signed PUT refuses size, type, checksum, key and age", signedPutRefused},
		{"signed PUT that is cut stores nothing", signedPutCut},
		{"signed PUT has one winner of sixteen", signedPutRace},
		{"an upload in parts: any order, listed, completed", parts},
		{"signed parts refuse size, number, upload, key and checksum", partsRefused},
		{"completing has one end: done, conflict, not found or invalid", completeEnds},
		{"completing has one winner of sixteen", completeRace},
		{"parts are listed over more than one page", manyParts},
		{"a form takes what was signed, its fields in any order", postForm},
		{"a form refuses size, key, type, signature and age", postRefused},
		{"signed GET names the download and its type", signedGet},
		{"odd keys: upload, stat, download, stage, list, delete", oddKeysSigned},
		{"a verified SHA-256 is in Stat", statChecksum},
		{"a browser's preflight is answered", preflight},
		{RowNotifications, notifications},
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// want is a row's assertion: nil, or an error that says what was expected.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func wantClass(err, class error, what string) error {
	return want(isClass(err, class), "%s: got %v, want %v", what, err, class)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func (b *bench) put(ctx context.Context, key string, data []byte, contentType string) (functions.ObjectRef, error) {
	return b.store.Put(ctx, b.bucket, key, strings.NewReader(string(data)), int64(len(data)), contentType)
}

func (b *bench) read(ctx context.Context, ref functions.ObjectRef) ([]byte, error) {
	r, err := b.store.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, 256<<20))
}

// send sends a signed request as its holder would.
func (b *bench) send(ctx context.Context, p functions.PresignedRequest, body []byte, change func(*http.Request)) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, p.Method, p.URL, strings.NewReader(string(body)))
	if err != nil {
		return 0, nil, nil, err
	}
	for k, v := range p.Headers {
		if k != "Content-Length" { // the transport sets it from the body
			req.Header.Set(k, v)
		}
	}
	if change != nil {
		change(req)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp.StatusCode, resp.Header, got, err
}
