package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// createdTimeout bounds how long an upload waits for Config.Created.
const createdTimeout = 10 * time.Second

// outbox adds to the backend what makes an object durable, and reports it.
// Every way to make an object passes one of these methods: PUT, signed PUT, HTML
// form, completed upload in parts, copy.
type outbox struct {
	backend.Backend
	data    string // absolute
	sidecar string // absolute; empty when xattrs hold the attributes
	created func(ctx context.Context, bucket, key, etag, versionID string) error
	log     *slog.Logger

	completing turns
}

func (o *outbox) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	if err := keyOK(in.Key); err != nil {
		return s3response.PutObjectOutput{}, err
	}
	in.Body = whole(in.Body, in.ContentLength)
	out, err := o.Backend.PutObject(throughStop(ctx), in)
	if err != nil {
		return out, err
	}
	return out, o.commit(ctx, in.Bucket, in.Key, out.ETag, out.VersionID)
}

func (o *outbox) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	if err := uploadOK(in.UploadId); err != nil {
		return nil, err
	}
	in.Body = whole(in.Body, in.ContentLength)
	return o.Backend.UploadPart(throughStop(ctx), in)
}

func (o *outbox) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	if err := keyOK(in.Key); err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	out, err := o.Backend.CopyObject(throughStop(ctx), in)
	if err != nil {
		return out, err
	}
	var etag string
	if out.CopyObjectResult != nil {
		etag = deref(out.CopyObjectResult.ETag)
	}
	return out, o.commit(ctx, in.Bucket, in.Key, etag, deref(out.VersionId))
}

// throughStop is ctx for work that a stop lets finish. A request's context ends
// as soon as a stop begins, and with nothing else.
func throughStop(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// whole returns r such that ending before size bytes is an error. The library
// takes the end of a broken connection for the end of the body when that has no
// checksum, and would keep the piece as the object.
func whole(r io.Reader, size *int64) io.Reader {
	if r == nil || size == nil || *size <= 0 {
		return r
	}
	e := &exact{r: r, left: *size}
	if sum, ok := r.(middlewares.ChecksumReader); ok { // the backend asks it for a checksum that trails the body
		return exactSum{e, sum}
	}
	return e
}

// exactSum is an exact reader that has its body's trailing checksum.
type exactSum struct {
	*exact
	middlewares.ChecksumReader
}

func (e exactSum) Read(p []byte) (int, error) { return e.exact.Read(p) }

type exact struct {
	r    io.Reader
	left int64 // bytes still expected
}

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		return n, s3err.GetAPIError(s3err.ErrIncompleteBody)
	}
	return n, err
}

func (o *outbox) commit(ctx context.Context, bucket, key *string, etag, version string) error {
	// The server's strings are valid during the request only; Created may keep them.
	b, k := strings.Clone(deref(bucket)), strings.Clone(deref(key))
	if err := o.sync(b, k); err != nil {
		return fmt.Errorf("sync object: %w", err)
	}
	if o.created == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(throughStop(ctx), createdTimeout)
	defer cancel()
	if err := o.created(ctx, b, k, strings.Trim(strings.Clone(etag), `"`), strings.Clone(version)); err != nil {
		o.log.Warn("new object not reported", "bucket", b, "key", k, "err", err)
	}
	return nil
}

// sync makes the object, its attributes and its folders durable. An object that
// another request replaced or removed meanwhile needs none.
func (o *outbox) sync(bucket, key string) error {
	paths := []string{filepath.Join(o.data, bucket, key)}
	if o.sidecar != "" {
		dir := filepath.Join(o.sidecar, bucket, key, "meta")
		attrs, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, a := range attrs {
			paths = append(paths, filepath.Join(dir, a.Name()))
		}
	}
	folders := make(map[string]bool)
	for _, path := range paths {
		if err := fsync(path); err != nil {
			return err
		}
		for dir := filepath.Dir(path); dir != o.data && dir != o.sidecar && !folders[dir]; dir = filepath.Dir(dir) {
			folders[dir] = true
			if err := fsync(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func fsync(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
