package objectstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/spillway/spillway/functions"
)

// The rows of the AWS SDK show that a client that we did not write works with
// the store, in its own way of doing things.

func awsRows() []namedCheck {
	return []namedCheck{
		{"the AWS client: default checksums, parts, copy", awsClient},
		{"the AWS client: put, head, get, range, copy, delete of odd keys", awsObjects},
		{"the AWS client: list by pages, prefix, folder, start-after", awsList},
		{"the AWS client: checksums are kept, wrong ones refused", awsChecksums},
		{"the AWS client: conditional put and get", awsConditions},
		{"the AWS client: parts with checksums, copied parts, abort", awsParts},
		{"the AWS client: signed PUT, GET and part", awsSigned},
		{"the AWS client: a form", awsForm},
		{"names do not lead to another bucket", namesElsewhere},
		{RowNamesAlike, namesAlike},
	}
}

// oddKeys are keys that clients and stores like to get wrong.
var oddKeys = []string{
	"in/a b+c%20d&e=f/u.bin", "in/ünï—码.txt", "100%/+x y", "q?r#s;t:u@v", "..a/b..", `'"<>&\.bin`, "~$!*()[]{}|^`",
}

// b64 is a SHA-256 as S3's headers have it.
func b64(data []byte) string {
	raw, _ := hex.DecodeString(sum(data)) // sum gives hex
	return base64.StdEncoding.EncodeToString(raw)
}

// answered reports whether err is the store's answer with that status.
func answered(err error, statuses ...int) bool {
	var resp interface{ HTTPStatusCode() int }
	return errors.As(err, &resp) && slices.Contains(statuses, resp.HTTPStatusCode())
}

func (b *bench) awsPut(ctx context.Context, key string, data []byte, change func(*s3.PutObjectInput)) (*s3.PutObjectOutput, error) {
	in := s3.PutObjectInput{Bucket: &b.bucket, Key: &key, Body: bytes.NewReader(data)}
	if change != nil {
		change(&in)
	}
	return b.aws.PutObject(ctx, &in)
}

func (b *bench) awsGet(ctx context.Context, key string, change func(*s3.GetObjectInput)) ([]byte, error) {
	in := s3.GetObjectInput{Bucket: &b.bucket, Key: &key}
	if change != nil {
		change(&in)
	}
	out, err := b.aws.GetObject(ctx, &in)
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

func awsObjects(ctx context.Context, b *bench) error {
	for i, key := range oddKeys {
		data := random(i * 1000) // the first is empty
		put, err := b.awsPut(ctx, key, data, func(in *s3.PutObjectInput) {
			in.ContentType, in.Metadata = aws.String("audio/wav"), map[string]string{"task": "t 1"}
		})
		if err != nil {
			return fmt.Errorf("put %q: %w", key, err)
		}
		head, err := b.aws.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: &key})
		if err != nil {
			return fmt.Errorf("head %q: %w", key, err)
		}
		if aws.ToString(head.ETag) != aws.ToString(put.ETag) || aws.ToInt64(head.ContentLength) != int64(len(data)) ||
			aws.ToString(head.ContentType) != "audio/wav" || head.Metadata["task"] != "t 1" {
			return fmt.Errorf("head %q: %+v", key, head)
		}
		if got, err := b.awsGet(ctx, key, nil); err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("get %q: %d bytes, %w", key, len(got), err)
		}
		if i > 0 {
			got, err := b.awsGet(ctx, key, func(in *s3.GetObjectInput) { in.Range = aws.String("bytes=10-19") })
			if err != nil || !bytes.Equal(got, data[10:20]) {
				return fmt.Errorf("range of %q: %d bytes, %w", key, len(got), err)
			}
		}
		copied := "copy/" + key
		_, err = b.aws.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b.bucket, Key: &copied, CopySource: copySource(b.bucket, key)})
		if err != nil {
			return fmt.Errorf("copy %q: %w", key, err)
		}
		if got, err := b.awsGet(ctx, copied, nil); err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("get the copy of %q: %d bytes, %w", key, len(got), err)
		}
		for range 2 {
			if _, err := b.aws.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.bucket, Key: &key}); err != nil {
				return fmt.Errorf("delete %q: %w", key, err)
			}
		}
		if _, err := b.awsGet(ctx, key, nil); !answered(err, 404) {
			return fmt.Errorf("get what was deleted, %q: %w", key, err)
		}
	}
	var rest []types.ObjectIdentifier
	for _, key := range oddKeys {
		rest = append(rest, types.ObjectIdentifier{Key: aws.String("copy/" + key)})
	}
	out, err := b.aws.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.bucket, Delete: &types.Delete{Objects: rest}})
	if err != nil || len(out.Errors) > 0 {
		return fmt.Errorf("delete many: %+v, %w", out, err)
	}
	for ref, err := range b.store.List(ctx, b.bucket, "", "") {
		return fmt.Errorf("left behind: %+v, %v", ref, err)
	}
	return nil
}

// copySource escapes as every store understands it: a space is %20 and not +.
func copySource(bucket, key string) *string {
	return aws.String(strings.ReplaceAll(url.QueryEscape(bucket+"/"+key), "+", "%20"))
}

func awsList(ctx context.Context, b *bench) error {
	keys := slices.Sorted(slices.Values(append(slices.Clone(oddKeys), "z/1", "z/2/3", "z/2/4")))
	for _, key := range keys {
		if _, err := b.awsPut(ctx, key, []byte("1"), nil); err != nil {
			return fmt.Errorf("put %q: %w", key, err)
		}
	}
	for _, c := range []struct {
		in           s3.ListObjectsV2Input
		keys, folder []string
	}{
		{s3.ListObjectsV2Input{MaxKeys: aws.Int32(3)}, keys, nil},
		{s3.ListObjectsV2Input{MaxKeys: aws.Int32(2), EncodingType: types.EncodingTypeUrl}, keys, nil},
		{s3.ListObjectsV2Input{StartAfter: aws.String("z/1"), MaxKeys: aws.Int32(1)}, keys[slices.Index(keys, "z/1")+1:], nil},
		{s3.ListObjectsV2Input{Prefix: aws.String("z/"), Delimiter: aws.String("/")}, []string{"z/1"}, []string{"z/2/"}},
		{s3.ListObjectsV2Input{Prefix: aws.String("none/")}, nil, nil},
	} {
		var got, folders []string
		c.in.Bucket = &b.bucket
		for pages := s3.NewListObjectsV2Paginator(b.aws, &c.in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, o := range page.Contents {
				key := aws.ToString(o.Key)
				if page.EncodingType != "" { // the store may ignore the wish
					if key, err = url.QueryUnescape(key); err != nil {
						return err
					}
				}
				got = append(got, key)
			}
			for _, p := range page.CommonPrefixes {
				folders = append(folders, aws.ToString(p.Prefix))
			}
		}
		if !slices.Equal(got, c.keys) || !slices.Equal(folders, c.folder) {
			return fmt.Errorf("list %+v: got %q %q, want %q %q", c.in, got, folders, c.keys, c.folder)
		}
	}
	return nil
}

func awsChecksums(ctx context.Context, b *bench) error {
	data := random(3000)
	for _, algorithm := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmSha256, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme} {
		key := "sum/" + string(algorithm)
		put, err := b.awsPut(ctx, key, data, func(in *s3.PutObjectInput) { in.ChecksumAlgorithm = algorithm })
		if err != nil {
			return fmt.Errorf("%s: %w", algorithm, err)
		}
		head, err := b.aws.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			return fmt.Errorf("%s: %w", algorithm, err)
		}
		values := func(sha, crcC, crcNVMe *string) string {
			return aws.ToString(sha) + aws.ToString(crcC) + aws.ToString(crcNVMe)
		}
		said := values(put.ChecksumSHA256, put.ChecksumCRC32C, put.ChecksumCRC64NVME)
		kept := values(head.ChecksumSHA256, head.ChecksumCRC32C, head.ChecksumCRC64NVME)
		if said == "" || kept != said {
			return fmt.Errorf("%s: put said %q, head says %q", algorithm, said, kept)
		}
		attrs, err := b.aws.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{
			Bucket: &b.bucket, Key: &key, ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesChecksum, types.ObjectAttributesObjectSize},
		})
		if err != nil || attrs.Checksum == nil || aws.ToInt64(attrs.ObjectSize) != int64(len(data)) ||
			values(attrs.Checksum.ChecksumSHA256, attrs.Checksum.ChecksumCRC32C, attrs.Checksum.ChecksumCRC64NVME) != said {
			return fmt.Errorf("%s: attributes are %+v, %w", algorithm, attrs, err)
		}
	}
	_, err := b.awsPut(ctx, "wrong", data, func(in *s3.PutObjectInput) { in.ChecksumSHA256 = aws.String(b64([]byte("other"))) })
	if !answered(err, 400) {
		return fmt.Errorf("a wrong SHA-256: got %w, want 400", err)
	}
	_, err = b.awsPut(ctx, "wrong", data, func(in *s3.PutObjectInput) { in.ContentMD5 = aws.String("1B2M2Y8AsgTpgAmY7PhCfg==") })
	if !answered(err, 400) {
		return fmt.Errorf("a wrong MD5: got %w, want 400", err)
	}
	_, err = b.awsGet(ctx, "wrong", nil)
	return want(answered(err, 404), "what was refused is there: %v", err)
}

func awsConditions(ctx context.Context, b *bench) error {
	never := func(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }
	first, err := b.awsPut(ctx, "c", []byte("1"), never)
	if err != nil {
		return err
	}
	if _, err := b.awsPut(ctx, "c", []byte("2"), never); !answered(err, 412) {
		return fmt.Errorf("put on what is there: got %w, want 412", err)
	}
	match := func(in *s3.PutObjectInput) { in.IfMatch = first.ETag }
	if _, err := b.awsPut(ctx, "c", []byte("3"), match); err != nil {
		return fmt.Errorf("put on the right ETag: %w", err)
	}
	if _, err := b.awsPut(ctx, "c", []byte("4"), match); !answered(err, 412) {
		return fmt.Errorf("put on an old ETag: got %w, want 412", err)
	}
	if _, err := b.awsPut(ctx, "none", []byte("5"), match); !answered(err, 404, 412) {
		return fmt.Errorf("put on an ETag where nothing is: got %w, want 404 or 412", err)
	}
	if _, err := b.awsGet(ctx, "c", func(in *s3.GetObjectInput) { in.IfMatch = first.ETag }); !answered(err, 412) {
		return fmt.Errorf("get with an old ETag: got %w, want 412", err)
	}
	head, err := b.aws.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: aws.String("c")})
	if err != nil {
		return err
	}
	if _, err := b.awsGet(ctx, "c", func(in *s3.GetObjectInput) { in.IfNoneMatch = head.ETag }); !answered(err, 304) {
		return fmt.Errorf("get what is known: got %w, want 304", err)
	}
	got, err := b.awsGet(ctx, "c", nil)
	return errors.Join(err, want(string(got) == "3", "content is %q, want 3", got))
}

func awsParts(ctx context.Context, b *bench) error {
	data := random(10<<20 + 7)
	key := aws.String(oddKeys[0])
	if _, err := b.awsPut(ctx, "source", data, nil); err != nil {
		return err
	}
	up, err := b.aws.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.bucket, Key: key, ContentType: aws.String("video/mp4"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		return err
	}
	part := func(n int32, body []byte, change func(*s3.UploadPartInput)) error {
		in := s3.UploadPartInput{
			Bucket: &b.bucket, Key: key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(body), ChecksumSHA256: aws.String(b64(body)),
		}
		if change != nil {
			change(&in)
		}
		_, err := b.aws.UploadPart(ctx, &in)
		return err
	}
	if err := part(1, []byte("replaced"), nil); err != nil {
		return err
	}
	if err := part(1, data[:5<<20], nil); err != nil {
		return err
	}
	if err := part(2, data[:10], func(in *s3.UploadPartInput) { in.ChecksumSHA256 = aws.String(b64(data[:11])) }); !answered(err, 400) {
		return fmt.Errorf("a part with a wrong SHA-256: got %w, want 400", err)
	}
	if err := part(2, data[5<<20:], nil); err != nil {
		return err
	}
	listed, err := b.aws.ListParts(ctx, &s3.ListPartsInput{Bucket: &b.bucket, Key: key, UploadId: up.UploadId})
	if err != nil || len(listed.Parts) != 2 {
		return fmt.Errorf("parts are %+v, %w", listed, err)
	}
	uploads, err := b.aws.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &b.bucket, Prefix: key})
	if err != nil || len(uploads.Uploads) != 1 || aws.ToString(uploads.Uploads[0].UploadId) != aws.ToString(up.UploadId) {
		return fmt.Errorf("uploads are %+v, %w", uploads, err)
	}
	var done types.CompletedMultipartUpload
	for _, p := range listed.Parts {
		done.Parts = append(done.Parts, types.CompletedPart{ETag: p.ETag, PartNumber: p.PartNumber, ChecksumSHA256: p.ChecksumSHA256})
	}
	complete := s3.CompleteMultipartUploadInput{
		Bucket: &b.bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &done, IfNoneMatch: aws.String("*"),
	}
	if _, err := b.aws.CompleteMultipartUpload(ctx, &complete); err != nil {
		return err
	}
	if _, err := b.aws.CompleteMultipartUpload(ctx, &complete); !answered(err, 404, 412) {
		return fmt.Errorf("complete twice: got %w, want 404 or 412", err)
	}
	head, err := b.aws.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: key})
	if err != nil || aws.ToString(head.ContentType) != "video/mp4" {
		return fmt.Errorf("head: %+v, %w", head, err)
	}
	if got, err := b.awsGet(ctx, *key, nil); err != nil || !bytes.Equal(got, data) {
		return fmt.Errorf("get: %d bytes, %w", len(got), err)
	}
	return awsCopyParts(ctx, b, data)
}

// awsCopyParts makes an object of ranges of "source", which holds data, and
// gives another upload up.
func awsCopyParts(ctx context.Context, b *bench, data []byte) error {
	key := aws.String("composed")
	up, err := b.aws.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: key})
	if err != nil {
		return err
	}
	var done types.CompletedMultipartUpload
	for i, r := range []string{"bytes=5242880-10485766", "bytes=0-9"} {
		n := aws.Int32(int32(i + 1))
		p, err := b.aws.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
			Bucket: &b.bucket, Key: key, UploadId: up.UploadId, PartNumber: n, CopySource: aws.String(b.bucket + "/source"), CopySourceRange: &r,
		})
		if err != nil {
			return fmt.Errorf("copy %s: %w", r, err)
		}
		done.Parts = append(done.Parts, types.CompletedPart{ETag: p.CopyPartResult.ETag, PartNumber: n})
	}
	_, err = b.aws.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &b.bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &done})
	if err != nil {
		return err
	}
	if got, err := b.awsGet(ctx, *key, nil); err != nil || !bytes.Equal(got, slices.Concat(data[5<<20:], data[:10])) {
		return fmt.Errorf("get what was composed: %d bytes, %w", len(got), err)
	}
	up, err = b.aws.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: aws.String("given up")})
	if err != nil {
		return err
	}
	_, err = b.aws.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: up.Key, UploadId: up.UploadId})
	if err != nil {
		return err
	}
	_, err = b.aws.ListParts(ctx, &s3.ListPartsInput{Bucket: &b.bucket, Key: up.Key, UploadId: up.UploadId})
	return want(answered(err, 404), "parts of what was aborted: got %v, want 404", err)
}

// sendSigned sends a request that the SDK signed.
func (b *bench) sendSigned(ctx context.Context, method, address string, header http.Header, body []byte, change func(*http.Request)) (int, error) {
	p := functions.PresignedRequest{Method: method, URL: address, Headers: map[string]string{}}
	for name := range header {
		if name != "Host" {
			p.Headers[name] = header.Get(name)
		}
	}
	status, _, _, err := b.send(ctx, p, body, change)
	return status, err
}

func awsSigned(ctx context.Context, b *bench) error {
	signer := s3.NewPresignClient(b.aws)
	data := random(2000)
	other := append(bytes.Clone(data[:1999]), data[1999]^1)
	put, err := signer.PresignPutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.bucket, Key: aws.String(oddKeys[0]), ContentLength: aws.Int64(2000), ContentType: aws.String("image/png"),
		ChecksumSHA256: aws.String(b64(data)), IfNoneMatch: aws.String("*"),
	})
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name   string
		body   []byte
		change func(*http.Request)
		want   []int
	}{
		{"shorter", data[:1999], nil, []int{400, 403}},
		{"other content", other, nil, []int{400, 403}},
		{"other type", data, func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }, []int{400, 403}},
		{"overwrite", data, func(r *http.Request) { r.Header.Del("If-None-Match") }, []int{400, 403}},
		{"exact", data, nil, []int{200}},
		{"again", data, nil, []int{412}},
	} {
		status, err := b.sendSigned(ctx, put.Method, put.URL, put.SignedHeader, c.body, c.change)
		if err != nil || !slices.Contains(c.want, status) {
			return fmt.Errorf("signed PUT, %s: got %d, want %v, %w", c.name, status, c.want, err)
		}
	}
	get, err := signer.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: aws.String(oddKeys[0])})
	if err != nil {
		return err
	}
	status, _, body, err := b.send(ctx, functions.PresignedRequest{Method: get.Method, URL: get.URL}, nil, nil)
	if err != nil || status != 200 || !bytes.Equal(body, data) {
		return fmt.Errorf("signed GET: %d, %d bytes, %w", status, len(body), err)
	}
	up, err := b.aws.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: aws.String("parts")})
	if err != nil {
		return err
	}
	part, err := signer.PresignUploadPart(ctx, &s3.UploadPartInput{
		Bucket: &b.bucket, Key: up.Key, UploadId: up.UploadId, PartNumber: aws.Int32(1), ContentLength: aws.Int64(2000),
	})
	if err != nil {
		return err
	}
	if status, err := b.sendSigned(ctx, part.Method, part.URL, part.SignedHeader, data, query("partNumber", "2")); err != nil || status != 403 {
		return fmt.Errorf("signed part, other number: got %d, want 403, %w", status, err)
	}
	if status, err := b.sendSigned(ctx, part.Method, part.URL, part.SignedHeader, data, nil); err != nil || status != 200 {
		return fmt.Errorf("signed part: got %d, want 200, %w", status, err)
	}
	_, err = b.aws.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: up.Key, UploadId: up.UploadId})
	return err
}

func awsForm(ctx context.Context, b *bench) error {
	form, err := s3.NewPresignClient(b.aws).PresignPostObject(ctx, &s3.PutObjectInput{Bucket: &b.bucket, Key: aws.String("form")},
		func(o *s3.PresignPostOptions) {
			o.Conditions = []any{[]any{"content-length-range", 10, 100}}
			o.Expires = time.Minute
		})
	if err != nil {
		return err
	}
	f := functions.PostForm{URL: form.URL, Fields: form.Values, FileField: "file"}
	order := slices.Sorted(maps.Keys(f.Fields))
	for size, wanted := range map[int]bool{9: false, 10: true, 100: true, 101: false} {
		status, text, err := b.post(ctx, f, order, random(size))
		if err != nil || (status < 300) != wanted || status >= 500 {
			return fmt.Errorf("form of %d bytes: %d %s, %w", size, status, text, err)
		}
	}
	return nil
}

func namesElsewhere(ctx context.Context, b *bench) error {
	return leadTo(ctx, b, "v-"+strings.ToLower(rand.Text()))
}

// namesAlike has a store that compares paths as strings in mind.
func namesAlike(ctx context.Context, b *bench) error { return leadTo(ctx, b, b.bucket+"-v") }

// leadTo tries to reach the files of the bucket victim from another one, as a
// store that keeps objects as files may let one do.
func leadTo(ctx context.Context, b *bench, victim string) error {
	if err := b.store.EnsureBucket(ctx, victim); err != nil {
		return err
	}
	put := func(bucket, key string) error {
		_, err := b.aws.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")})
		return err
	}
	if err := put(victim, "secret"); err != nil {
		return err
	}
	for _, key := range []string{"a/../b", "../" + victim + "/x", "a/../../" + victim + "/y", "..", "a/..", "./a", "a/./b"} {
		if err := put(b.bucket, key); !answered(err, 400, 403) {
			return fmt.Errorf("put %q: got %w, want it refused", key, err)
		}
		up, err := b.aws.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: &key})
		if !answered(err, 400, 403) {
			return fmt.Errorf("begin %q: got %+v, %w, want it refused", key, up, err)
		}
	}
	// A batch may answer for each key; what counts is that nothing goes.
	_, _ = b.aws.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.bucket, Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: aws.String("../" + victim + "/secret")}}}})
	key := aws.String("k")
	up, err := b.aws.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: key})
	if err != nil {
		return err
	}
	for _, id := range []string{"../../../../" + victim, *up.UploadId + "/../../../../../" + victim, "..", "."} {
		_, err := b.aws.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &b.bucket, Key: key, UploadId: &id, PartNumber: aws.Int32(7), Body: strings.NewReader("x")})
		_, listErr := b.aws.ListParts(ctx, &s3.ListPartsInput{Bucket: &b.bucket, Key: key, UploadId: &id})
		_, abortErr := b.aws.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: key, UploadId: &id})
		for _, err := range []error{err, listErr, abortErr} {
			if !answered(err, 400, 403, 404) {
				return fmt.Errorf("upload %q: got %w, want it refused", id, err)
			}
		}
	}
	version := "../../../../../../data/" + victim + "/secret"
	if _, err := b.awsGet(ctx, "k", func(in *s3.GetObjectInput) { in.VersionId = &version }); !answered(err, 400, 403, 404) {
		return fmt.Errorf("version %q: got %w, want it refused", version, err)
	}
	_, _ = b.aws.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.bucket, Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: key, VersionId: &version}}}})
	var all []string
	for _, bucket := range []string{b.bucket, victim} {
		for ref, err := range b.store.List(ctx, bucket, "", "") {
			if err != nil {
				return err
			}
			all = append(all, ref.Bucket+"/"+ref.Key)
		}
	}
	return want(slices.Equal(all, []string{victim + "/secret"}), "objects are %q", all)
}
