package objectstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
)

func isClass(err, class error) bool { return errors.Is(err, class) }

func wrongKey(ctx context.Context, b *bench) error {
	bad, err := objects.New(objects.Config{
		Endpoint: b.srv.Endpoint, AccessKey: b.srv.accessKey(), SecretKey: "not-the-secret", RootCAs: b.srv.RootCAs,
	})
	if err != nil {
		return err
	}
	if err := wantClass(bad.Ready(ctx), functions.ErrForbidden, "ready with a wrong secret"); err != nil {
		return err
	}
	if err := b.store.Ready(ctx); err != nil {
		return err
	}
	resp, err := b.http.Get(b.srv.Endpoint + "/" + b.bucket + "?list-type=2")
	if err != nil {
		return err
	}
	resp.Body.Close()
	return want(resp.StatusCode == 403, "anonymous listing: got %d, want 403", resp.StatusCode)
}

func bucketTwice(ctx context.Context, b *bench) error {
	if err := b.store.EnsureBucket(ctx, b.bucket); err != nil {
		return err
	}
	return wantClass(b.store.EnsureBucket(ctx, "No_Such"), functions.ErrInvalid, "a bad bucket name")
}

func putGet(ctx context.Context, b *bench) error {
	for _, n := range []int{0, 1, 4096, 1<<20 - 1, 1 << 20, 1<<20 + 1, 17 << 20} {
		data := random(n)
		ref, err := b.put(ctx, fmt.Sprintf("a/%d.bin", n), data, "audio/wav")
		if err != nil {
			return fmt.Errorf("put %d bytes: %w", n, err)
		}
		if ref.SHA256 != sum(data) || ref.Size != int64(n) || ref.ETag == "" {
			return fmt.Errorf("put of %d bytes returned %+v", n, ref)
		}
		got, err := b.read(ctx, ref)
		if err != nil {
			return fmt.Errorf("get %d bytes: %w", n, err)
		}
		if !bytes.Equal(got, data) {
			return fmt.Errorf("%d bytes came back different", n)
		}
		now, err := b.store.Stat(ctx, b.bucket, ref.Key, "")
		if err != nil {
			return fmt.Errorf("stat %d bytes: %w", n, err)
		}
		if now.ETag != ref.ETag || now.Size != ref.Size || now.ContentType != "audio/wav" {
			return fmt.Errorf("stat got %+v, want %+v", now, ref)
		}
	}
	return nil
}

func emptyThenMore(ctx context.Context, b *bench) error {
	for i := range 40 {
		ref, err := b.put(ctx, fmt.Sprintf("empty/%d", i), nil, "")
		if err != nil {
			return fmt.Errorf("put %d: %w", i, err)
		}
		if got, err := b.read(ctx, ref); err != nil || len(got) != 0 {
			return fmt.Errorf("get %d: %d bytes, %w", i, len(got), err)
		}
	}
	return nil
}

func ranges(ctx context.Context, b *bench) error {
	data := random(100_000)
	ref, err := b.put(ctx, "r", data, "")
	if err != nil {
		return err
	}
	for _, r := range []struct{ off, length, end int64 }{{10, 5, 15}, {99_990, -1, 100_000}, {0, -1, 100_000}, {0, 1, 1}, {99_999, 50, 100_000}} {
		body, err := b.store.GetRange(ctx, ref, r.off, r.length)
		if err != nil {
			return fmt.Errorf("range %v: %w", r, err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		if err != nil || !bytes.Equal(got, data[r.off:r.end]) {
			return fmt.Errorf("range %v: %d bytes, %w", r, len(got), err)
		}
	}
	_, err = b.store.GetRange(ctx, ref, 100_000, 5)
	return wantClass(err, functions.ErrInvalid, "range behind the end")
}

func heads(ctx context.Context, b *bench) error {
	const most = 3000
	for _, n := range []int{0, 10, most, 60_000, 200_000} {
		data, key := random(n), fmt.Sprintf("head/%d", n)
		if _, err := b.put(ctx, key, data, "audio/flac"); err != nil {
			return err
		}
		want, err := b.store.Stat(ctx, b.bucket, key, "")
		if err != nil {
			return err
		}
		for _, expect := range []int64{int64(n), functions.UnknownSize, 0, 1 << 40} {
			got, head, err := b.store.Head(ctx, b.bucket, key, "", expect, most)
			if err != nil || head == nil || !bytes.Equal(head, data[:min(n, most)]) || got != want {
				return fmt.Errorf("%d bytes, expected to be %d: %+v and %d bytes, %w; stat says %+v", n, expect, got, len(head), err, want)
			}
		}
		if got, head, err := b.store.Head(ctx, b.bucket, key, "", int64(n), 0); err != nil || len(head) != 0 || got != want {
			return fmt.Errorf("%d bytes, none of them read: %+v and %d bytes, %w", n, got, len(head), err)
		}
	}
	for _, expect := range []int64{5, functions.UnknownSize} {
		_, _, err := b.store.Head(ctx, b.bucket, "head/none", "", expect, most)
		if err := wantClass(err, functions.ErrNotFound, "the head of nothing"); err != nil {
			return err
		}
	}
	return nil
}

func unknownSize(ctx context.Context, b *bench) error {
	for _, n := range []int{0, 10, 1 << 20, 33<<20 + 7} {
		data := random(n)
		ref, err := b.store.Put(ctx, b.bucket, fmt.Sprintf("stream/%d", n), iotest.OneByteReader(bytes.NewReader(data[:min(n, 1000)])), -1, "video/mp4")
		if n > 1000 {
			ref, err = b.store.Put(ctx, b.bucket, fmt.Sprintf("stream/%d", n), io.MultiReader(bytes.NewReader(data)), -1, "video/mp4")
		}
		if err != nil {
			return fmt.Errorf("put %d bytes: %w", n, err)
		}
		if ref.Size != int64(n) || ref.SHA256 != sum(data) {
			return fmt.Errorf("put of %d bytes returned %+v", n, ref)
		}
		got, err := b.read(ctx, ref)
		if err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("get %d bytes: %d, %w", n, len(got), err)
		}
	}
	return nil
}

// putFile puts what can be read at will, from where it stands.
func putFile(ctx context.Context, b *bench) error {
	data := random(50<<20 + 13)
	f, err := os.Create(filepath.Join(b.t.TempDir(), "f"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	for _, from := range []int64{0, 7} {
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return err
		}
		ref, err := b.store.Put(ctx, b.bucket, "file", f, int64(len(data))-from, "video/mp4")
		if err != nil {
			return err
		}
		now, err := b.store.Stat(ctx, b.bucket, "file", "")
		if err != nil || ref.SHA256 != sum(data[from:]) || now.ETag != ref.ETag || now.Size != ref.Size || now.ContentType != "video/mp4" {
			return fmt.Errorf("from %d: put returned %+v, stat %+v, %w", from, ref, now, err)
		}
		if got, err := b.read(ctx, ref); err != nil || !bytes.Equal(got, data[from:]) {
			return fmt.Errorf("from %d: %d bytes came back, %w", from, len(got), err)
		}
	}
	old, err := b.store.Stat(ctx, b.bucket, "file", "")
	if err != nil {
		return err
	}
	_, err = b.store.Put(ctx, b.bucket, "file", io.NewSectionReader(f, 0, 40<<20), 41<<20, "")
	if err := wantClass(err, functions.ErrInvalid, "a file that is shorter"); err != nil {
		return err
	}
	broken := errors.New("disk on fire")
	_, err = b.store.Put(ctx, b.bucket, "file", burning{f, broken}, 50<<20, "")
	if !errors.Is(err, broken) {
		return fmt.Errorf("a disk that fails: got %w, want its error", err)
	}
	stopped, stop := context.WithCancel(ctx)
	_, err = b.store.Put(stopped, b.bucket, "file", canceling{f, stop}, 50<<20, "")
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("canceled: got %w, want that", err)
	}
	if now, err := b.store.Stat(ctx, b.bucket, "file", ""); err != nil || now != old {
		return fmt.Errorf("after failures there is %+v, want %+v, %w", now, old, err)
	}
	return nil
}

// burning is a file that fails behind 20 MiB.
type burning struct {
	*os.File
	err error
}

func (b burning) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > 20<<20 {
		return 0, b.err
	}
	return b.File.ReadAt(p, off)
}

// canceling is a file whose reader gives up behind 20 MiB.
type canceling struct {
	*os.File
	stop func()
}

func (c canceling) ReadAt(p []byte, off int64) (int, error) {
	if off > 20<<20 {
		c.stop()
	}
	return c.File.ReadAt(p, off)
}

func failingSource(ctx context.Context, b *bench) error {
	broken := errors.New("disk on fire")
	for _, c := range []struct {
		name string
		n    int
		size int64
	}{{"small", 10, 100}, {"stream", 20 << 20, -1}, {"known", 3 << 20, 5 << 20}, {"parts", 20 << 20, 40 << 20}} {
		src := io.MultiReader(bytes.NewReader(make([]byte, c.n)), iotest.ErrReader(broken))
		if _, err := b.store.Put(ctx, b.bucket, "broken/"+c.name, src, c.size, ""); !errors.Is(err, broken) {
			return fmt.Errorf("%s: got %w, want the source's error", c.name, err)
		}
		if _, err := b.store.Stat(ctx, b.bucket, "broken/"+c.name, ""); !errors.Is(err, functions.ErrNotFound) {
			return fmt.Errorf("%s: something was stored, or stat fails: %v", c.name, err)
		}
	}
	return nil
}

func shortBody(ctx context.Context, b *bench) error {
	for _, size := range []int64{100, 3 << 20} {
		_, err := b.store.Put(ctx, b.bucket, "short", bytes.NewReader(make([]byte, size/2)), size, "")
		if err := wantClass(err, functions.ErrInvalid, fmt.Sprintf("half of %d bytes", size)); err != nil {
			return err
		}
		if _, err := b.store.Stat(ctx, b.bucket, "short", ""); !errors.Is(err, functions.ErrNotFound) {
			return fmt.Errorf("half of %d bytes was stored, or stat fails: %v", size, err)
		}
	}
	return nil
}

func (b *bench) stage(ctx context.Context, ref functions.ObjectRef) (string, []byte, error) {
	f, err := os.Create(filepath.Join(b.t.TempDir(), "in"))
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	got, err := b.store.Stage(ctx, ref, f)
	if err != nil {
		return "", nil, err
	}
	data, err := os.ReadFile(f.Name())
	return got, data, err
}

func stage(ctx context.Context, b *bench) error {
	for _, n := range []int{0, 5, 2 << 20, 32 << 20, 50<<20 + 13} {
		data := random(n)
		ref, err := b.put(ctx, "s", data, "")
		if err != nil {
			return err
		}
		for _, known := range []bool{true, false} {
			if !known { // as an event names it: the key alone
				ref = functions.ObjectRef{Bucket: ref.Bucket, Key: ref.Key}
			}
			got, file, err := b.stage(ctx, ref)
			if err != nil {
				return fmt.Errorf("stage %d bytes: %w", n, err)
			}
			if got != sum(data) || !bytes.Equal(file, data) {
				return fmt.Errorf("%d bytes were staged wrong", n)
			}
		}
	}
	return nil
}

func stageChanged(ctx context.Context, b *bench) error {
	for _, n := range []int{100, 33 << 20} {
		old, err := b.put(ctx, "c", random(n), "")
		if err != nil {
			return err
		}
		if _, err := b.put(ctx, "c", random(n), ""); err != nil {
			return err
		}
		_, _, err = b.stage(ctx, old)
		if err := wantClass(err, functions.ErrConflict, "stage a replaced object"); err != nil {
			return err
		}
		now, err := b.store.Stat(ctx, b.bucket, "c", "")
		if err != nil {
			return err
		}
		now.SHA256 = old.SHA256
		_, _, err = b.stage(ctx, now)
		if err := wantClass(err, functions.ErrConflict, "stage content of another hash"); err != nil {
			return err
		}
		if err := b.store.Delete(ctx, functions.ObjectRef{Bucket: b.bucket, Key: "c"}); err != nil {
			return err
		}
		_, _, err = b.stage(ctx, old)
		if err := wantClass(err, functions.ErrNotFound, "stage a gone object"); err != nil {
			return err
		}
	}
	return nil
}

func missing(ctx context.Context, b *bench) error {
	_, err := b.store.Stat(ctx, b.bucket, "nothing", "")
	if err := wantClass(err, functions.ErrNotFound, "stat"); err != nil {
		return err
	}
	_, err = b.store.Get(ctx, functions.ObjectRef{Bucket: b.bucket, Key: "nothing", ETag: "abc"})
	if err := wantClass(err, functions.ErrNotFound, "get"); err != nil {
		return err
	}
	_, err = b.store.Put(ctx, "no-such-bucket-here", "k", strings.NewReader("x"), 1, "")
	if err := wantClass(err, functions.ErrNotFound, "put into a missing bucket"); err != nil {
		return err
	}
	for _, err := range b.store.List(ctx, "no-such-bucket-here", "", "") {
		return wantClass(err, functions.ErrNotFound, "list a missing bucket")
	}
	return errors.New("a missing bucket was listed")
}

func deleteTwice(ctx context.Context, b *bench) error {
	ref, err := b.put(ctx, "d", []byte("x"), "")
	if err != nil {
		return err
	}
	for range 2 {
		if err := b.store.Delete(ctx, ref); err != nil {
			return err
		}
	}
	_, err = b.store.Stat(ctx, b.bucket, "d", "")
	return wantClass(err, functions.ErrNotFound, "stat after delete")
}

func list(ctx context.Context, b *bench) error {
	keys := []string{"in/a b+c%20d&e=f/u.bin", "in/x", "in/y", "in/ünï—码.txt", "other/z"}
	for _, key := range keys {
		if _, err := b.put(ctx, key, []byte("1234"), ""); err != nil {
			return fmt.Errorf("put %q: %w", key, err)
		}
	}
	for _, c := range []struct {
		prefix, after string
		want          []string
	}{{"", "", keys}, {"in/", "", keys[:4]}, {"in/", "in/x", keys[2:4]}, {"in/x", "", keys[1:2]}, {"none/", "", nil}} {
		var got []string
		for ref, err := range b.store.List(ctx, b.bucket, c.prefix, c.after) {
			if err != nil {
				return err
			}
			if ref.Size != 4 || ref.ETag == "" || ref.Bucket != b.bucket {
				return fmt.Errorf("listed %+v", ref)
			}
			got = append(got, ref.Key)
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			return fmt.Errorf("list %q after %q: got %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
	return nil
}

func listSince(ctx context.Context, b *bench) error {
	if _, err := b.put(ctx, "x", []byte("1"), ""); err != nil {
		return err
	}
	count := func(prefix string, since time.Time) (n int, err error) {
		for ref, err := range b.store.ListSince(ctx, b.bucket, prefix, since) {
			if err != nil || ref.Key != "x" {
				return 0, fmt.Errorf("listed %+v, %w", ref, err)
			}
			n++
		}
		return n, nil
	}
	now := time.Now() // the store runs on this machine, or its clock is close
	for _, c := range []struct {
		prefix string
		since  time.Time
		want   int
	}{{"", time.Time{}, 1}, {"", now.Add(-time.Hour), 1}, {"", now.Add(time.Hour), 0}, {"y", time.Time{}, 0}} {
		if n, err := count(c.prefix, c.since); err != nil || n != c.want {
			return fmt.Errorf("%q since %s: %d, want %d, %w", c.prefix, c.since, n, c.want, err)
		}
	}
	return nil
}

func folderAndObject(ctx context.Context, b *bench) error {
	if _, err := b.put(ctx, "p", []byte("1"), ""); err != nil {
		return err
	}
	_, err := b.put(ctx, "p/q", []byte("2"), "")
	return err
}

func versions(ctx context.Context, b *bench) error {
	if on, err := b.store.Versioned(ctx, b.bucket); err != nil || on {
		return fmt.Errorf("a new bucket has versions: %t, %w", on, err)
	}
	_, err := b.aws.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket: &b.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		return err
	}
	if on, err := b.store.Versioned(ctx, b.bucket); err != nil || !on {
		return fmt.Errorf("the bucket has no versions: %w", err)
	}
	var refs []functions.ObjectRef
	for _, text := range []string{"one", "two", "three"} {
		ref, err := b.put(ctx, "v", []byte(text), "")
		if err != nil {
			return err
		}
		if ref.VersionID == "" {
			return fmt.Errorf("put returned no version: %+v", ref)
		}
		refs = append(refs, ref)
	}
	for i, text := range []string{"one", "two", "three"} {
		got, err := b.read(ctx, refs[i])
		if err != nil || string(got) != text {
			return fmt.Errorf("version %d: %q, %w", i, got, err)
		}
		st, err := b.store.Stat(ctx, b.bucket, "v", refs[i].VersionID)
		if err != nil || st.ETag != refs[i].ETag || st.VersionID != refs[i].VersionID {
			return fmt.Errorf("stat version %d: %+v, %w", i, st, err)
		}
	}
	if err := b.store.Delete(ctx, functions.ObjectRef{Bucket: b.bucket, Key: "v"}); err != nil {
		return err
	}
	n := 0
	for ref, err := range b.store.ListSince(ctx, b.bucket, "", time.Time{}) {
		if err != nil {
			return err
		}
		if ref.Key != "v" || ref.VersionID == "" {
			return fmt.Errorf("listed %+v", ref)
		}
		n++
	}
	return want(n == 3, "listed %d versions behind a delete marker, want 3", n)
}

func awsClient(ctx context.Context, b *bench) error {
	data := random(6 << 20)
	_, err := b.aws.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.bucket, Key: aws.String("aws"), Body: bytes.NewReader(data)})
	if err != nil {
		return err
	}
	out, err := b.aws.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: aws.String("aws")})
	if err != nil {
		return err
	}
	got, err := io.ReadAll(out.Body)
	out.Body.Close()
	if err != nil || !bytes.Equal(got, data) {
		return fmt.Errorf("got %d bytes, %w", len(got), err)
	}
	up, err := b.aws.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: aws.String("parts")})
	if err != nil {
		return err
	}
	var done types.CompletedMultipartUpload
	for i, part := range [][]byte{data[:5<<20], data[5<<20:]} {
		n := aws.Int32(int32(i + 1))
		p, err := b.aws.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &b.bucket, Key: up.Key, UploadId: up.UploadId, PartNumber: n, Body: bytes.NewReader(part),
		})
		if err != nil {
			return err
		}
		done.Parts = append(done.Parts, types.CompletedPart{ETag: p.ETag, PartNumber: n, ChecksumCRC32: p.ChecksumCRC32})
	}
	_, err = b.aws.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.bucket, Key: up.Key, UploadId: up.UploadId, MultipartUpload: &done,
	})
	if err != nil {
		return err
	}
	_, err = b.aws.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b.bucket, Key: aws.String("copy"), CopySource: aws.String(b.bucket + "/parts")})
	if err != nil {
		return err
	}
	file, err := b.read(ctx, functions.ObjectRef{Bucket: b.bucket, Key: "copy"})
	if err != nil {
		return err
	}
	return want(bytes.Equal(file, data), "the copy differs")
}
