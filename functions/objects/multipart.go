package objects

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/functions"
)

// maxParts is S3's bound on the parts of one object, and on their numbers.
const maxParts = 10_000

// NewMultipart begins an upload in parts of ref's key and content type, and
// returns the store's name for it. With checksums every part must bring its
// SHA-256.
func (s *Store) NewMultipart(ctx context.Context, ref functions.ObjectRef, checksums bool) (uploadID string, err error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return "", err
	}
	opts := minio.PutObjectOptions{ContentType: ref.ContentType}
	if checksums {
		opts.UserMetadata = map[string]string{"X-Amz-Checksum-Algorithm": "SHA256"}
	}
	id, err := s.core.NewMultipartUpload(ctx, ref.Bucket, ref.Key, opts)
	return id, translate(ctx, err, "begin an upload in parts of", ref.Bucket, ref.Key)
}

// PresignPart signs the upload of one part: its number from 1, its size in bytes
// and, when sum is not empty, its SHA-256 in hex. Sending a part again replaces
// it. It needs no network.
func (s *Store) PresignPart(ctx context.Context, ref functions.ObjectRef, uploadID string, number int, size int64, sum string, ttl time.Duration) (functions.PresignedRequest, error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return functions.PresignedRequest{}, err
	}
	if number < 1 || number > maxParts {
		return functions.PresignedRequest{}, functions.Invalid("bad_part", "part %d is out of range 1 to %d", number, maxParts).WithField("parts")
	}
	headers := map[string]string{"Content-Length": strconv.FormatInt(size, 10)}
	if sum != "" {
		b64, err := base64SHA256(sum)
		if err != nil {
			return functions.PresignedRequest{}, err
		}
		headers["X-Amz-Checksum-Sha256"] = b64
	}
	query := url.Values{"partNumber": {strconv.Itoa(number)}, "uploadId": {uploadID}}
	return s.presign(ctx, http.MethodPut, ref, ttl, query, headers)
}

// base64SHA256 turns a SHA-256 in hex into the form of S3's header.
func base64SHA256(sum string) (string, error) {
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != 32 {
		return "", functions.Invalid("bad_sha256", "%.80q is not a SHA-256 in hex", sum).WithField("sha256")
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// Parts lists what the store holds of an upload that is not complete, by number.
// ErrNotFound: it was completed or aborted, or never begun.
func (s *Store) Parts(ctx context.Context, ref functions.ObjectRef, uploadID string) (parts []functions.Part, err error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return nil, err
	}
	for marker := 0; ; {
		page, err := s.core.ListObjectParts(ctx, ref.Bucket, ref.Key, uploadID, marker, 1000)
		if err != nil {
			return nil, translate(ctx, err, "list the parts of", ref.Bucket, ref.Key)
		}
		for _, p := range page.ObjectParts {
			part := functions.Part{Number: p.PartNumber, Size: p.Size, ETag: strings.Trim(p.ETag, `"`)}
			if raw, err := base64.StdEncoding.DecodeString(p.ChecksumSHA256); err == nil && len(raw) == 32 {
				part.SHA256 = hex.EncodeToString(raw)
			}
			parts = append(parts, part)
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			return parts, nil
		}
		marker = page.NextPartNumberMarker
	}
}

// CompleteMultipart makes the object of its parts, unless the key has one:
// ErrConflict. ErrNotFound: the upload was completed or aborted before.
func (s *Store) CompleteMultipart(ctx context.Context, ref functions.ObjectRef, uploadID string, parts []functions.Part) (functions.ObjectRef, error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return ref, err
	}
	var opts minio.PutObjectOptions
	opts.SetMatchETagExcept("*")
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		list[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag}
		if p.SHA256 != "" {
			var err error
			if list[i].ChecksumSHA256, err = base64SHA256(p.SHA256); err != nil {
				return ref, err
			}
		}
	}
	info, err := s.core.CompleteMultipartUpload(ctx, ref.Bucket, ref.Key, uploadID, list, opts)
	if err != nil {
		return ref, translate(ctx, err, "complete the upload of", ref.Bucket, ref.Key)
	}
	ref.ETag, ref.VersionID = info.ETag, info.VersionID
	return ref, nil
}

// AbortMultipart gives up an upload in parts and frees what it took. Aborting
// what is gone succeeds.
func (s *Store) AbortMultipart(ctx context.Context, ref functions.ObjectRef, uploadID string) error {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return err
	}
	err := s.core.AbortMultipartUpload(ctx, ref.Bucket, ref.Key, uploadID)
	err = translate(ctx, err, "abort the upload of", ref.Bucket, ref.Key)
	if errors.Is(err, functions.ErrNotFound) {
		return nil
	}
	return err
}

// PresignPost signs an upload by an HTML form: just ref's key and content type,
// and a file of least to most bytes. It needs no network.
func (s *Store) PresignPost(ctx context.Context, ref functions.ObjectRef, least, most int64, ttl time.Duration) (functions.PostForm, error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return functions.PostForm{}, err
	}
	expires := time.Now().Add(ttl)
	p := minio.NewPostPolicy()
	err := errors.Join(p.SetBucket(ref.Bucket), p.SetKey(ref.Key), p.SetExpires(expires.UTC()),
		p.SetContentType(ref.ContentType), p.SetContentLengthRange(least, most), p.SetSuccessStatusAction("201"))
	if err != nil {
		return functions.PostForm{}, functions.Invalid("bad_form", "this upload cannot be a form").WithCause(err)
	}
	u, fields, err := s.signer.PresignedPostPolicy(ctx, p)
	if err != nil {
		return functions.PostForm{}, translate(ctx, err, "sign a form for", ref.Bucket, ref.Key)
	}
	return functions.PostForm{URL: u.String(), Fields: fields, FileField: "file", ExpiresAt: expires}, nil
}
