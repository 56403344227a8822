package objects

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/functions"
)

// S3's bounds on one object in parts: how many and their numbers, and the bytes
// of one. A part that is not the last has at least 5 MiB, which the store sees
// when the upload is completed.
const (
	maxParts = 10_000
	maxPart  = 5 << 30
)

// NewMultipart begins an upload in parts of ref's key and content type, and
// returns the store's name for it. With checksums the store takes no part that
// comes without its SHA-256.
func (s *Store) NewMultipart(ctx context.Context, ref functions.ObjectRef, checksums bool) (uploadID string, err error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return "", err
	}
	opts := minio.PutObjectOptions{ContentType: ref.ContentType}
	if checksums {
		// The library sends x-amz-checksum- names as headers of their own.
		opts.UserMetadata = map[string]string{"X-Amz-Checksum-Algorithm": "SHA256"}
	}
	id, err := s.core.NewMultipartUpload(ctx, ref.Bucket, ref.Key, opts)
	return id, translate(ctx, err, "begin an upload in parts of", ref.Bucket, ref.Key)
}

// PresignPart signs the upload of one part: its number from 1, its size in bytes
// and, when sum is not empty, its SHA-256 in hex. The store refuses anything
// else. Sending a part again replaces it. It needs no network.
func (s *Store) PresignPart(ctx context.Context, ref functions.ObjectRef, uploadID string, number int, size int64, sum string, ttl time.Duration) (functions.PresignedRequest, error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return functions.PresignedRequest{}, err
	}
	if number < 1 || number > maxParts {
		return functions.PresignedRequest{}, functions.Invalid("bad_part", "part %d is out of range 1 to %d", number, maxParts).WithField("parts")
	}
	if size < 1 || size > maxPart {
		return functions.PresignedRequest{}, functions.Invalid("bad_size", "part %d has %d bytes; a part has 1 byte to 5 GiB", number, size).WithField("size")
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

// CompleteMultipart makes the object of its parts, in the order of their
// numbers, and returns what the store says of it; a SHA-256 of the whole it does
// not know. ErrConflict: the key has an object, be it this upload's. Whoever may
// have missed the answer to an earlier call finds out with Stat. ErrNotFound:
// the key has none, and the upload was aborted or never begun. ErrInvalid: a
// part is missing, another one or too small; the upload stays.
func (s *Store) CompleteMultipart(ctx context.Context, ref functions.ObjectRef, uploadID string, parts []functions.Part) (functions.ObjectRef, error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return ref, err
	}
	list, err := completion(parts)
	if err != nil {
		return ref, err
	}
	var opts minio.PutObjectOptions
	opts.SetMatchETagExcept("*")
	info, err := s.core.CompleteMultipartUpload(ctx, ref.Bucket, ref.Key, uploadID, list, opts)
	if code(err) == minio.NoSuchUpload { // a store may look for the upload before the object
		if _, statErr := s.Stat(ctx, ref.Bucket, ref.Key, ""); statErr == nil {
			return ref, fmt.Errorf("complete the upload of %s/%s: %w", ref.Bucket, ref.Key,
				functions.Conflict("object_exists", "%s/%s is in the object store already", ref.Bucket, ref.Key).WithCause(err))
		}
	}
	if err != nil {
		return ref, translate(ctx, err, "complete the upload of", ref.Bucket, ref.Key)
	}
	return s.Stat(ctx, ref.Bucket, ref.Key, info.VersionID)
}

// completion is the list of parts that a store wants to see.
func completion(parts []functions.Part) ([]minio.CompletePart, error) {
	if len(parts) == 0 || len(parts) > maxParts {
		return nil, functions.Invalid("bad_part", "an object has 1 to %d parts, not %d", maxParts, len(parts)).WithField("parts")
	}
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		list[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag}
		if p.SHA256 != "" {
			var err error
			if list[i].ChecksumSHA256, err = base64SHA256(p.SHA256); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
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
// and a file of least to most bytes. Until it expires a second upload replaces
// the object: a form knows no condition. It needs no network.
func (s *Store) PresignPost(ctx context.Context, ref functions.ObjectRef, least, most int64, ttl time.Duration) (functions.PostForm, error) {
	if err := errors.Join(checkWrite(ref.Bucket, ref.Key), checkTTL(ttl)); err != nil {
		return functions.PostForm{}, err
	}
	if least < 0 || most < max(least, 1) || most > maxPart {
		return functions.PostForm{}, functions.Invalid("bad_size", "%d to %d bytes are no range of sizes", least, most).
			WithHint("a form takes a file of at most 5 GiB").WithField("size")
	}
	if ref.ContentType == "" {
		ref.ContentType = "application/octet-stream"
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
