package objects

import (
	"context"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spillway/spillway/functions"
)

// maxSigned is the longest life of a version 4 signature.
const maxSigned = 7 * 24 * time.Hour

// PresignPut signs an upload of exactly ref: its key, size, content type and,
// when ref has one, SHA-256. The store refuses anything else, and refuses a
// second upload of the key. It needs no network.
func (s *Store) PresignPut(ctx context.Context, ref functions.ObjectRef, ttl time.Duration) (functions.PresignedRequest, error) {
	if err := checkWrite(ref.Bucket, ref.Key); err != nil {
		return functions.PresignedRequest{}, err
	}
	if ref.Size < 0 {
		return functions.PresignedRequest{}, functions.Invalid("bad_size", "an upload needs its size in bytes").WithField("size")
	}
	if ref.ContentType == "" {
		ref.ContentType = "application/octet-stream"
	}
	headers := map[string]string{
		"Content-Length": strconv.FormatInt(ref.Size, 10),
		"Content-Type":   ref.ContentType,
		"If-None-Match":  "*",
	}
	if ref.SHA256 != "" {
		sum, err := base64SHA256(ref.SHA256)
		if err != nil {
			return functions.PresignedRequest{}, err
		}
		headers["X-Amz-Checksum-Sha256"] = sum
	}
	return s.presign(ctx, http.MethodPut, ref, ttl, nil, headers)
}

// PresignGet signs a download of ref. A browser saves it under downloadName and
// never shows it in place: what users upload is not trusted.
func (s *Store) PresignGet(ctx context.Context, ref functions.ObjectRef, ttl time.Duration, downloadName string) (functions.PresignedRequest, error) {
	if err := checkRead(ref.Bucket, ref.Key); err != nil {
		return functions.PresignedRequest{}, err
	}
	if ref.ContentType == "" {
		ref.ContentType = "application/octet-stream"
	}
	disposition := "attachment"
	if downloadName != "" {
		if err := functions.FileName(downloadName); err != nil {
			return functions.PresignedRequest{}, err
		}
		disposition = mime.FormatMediaType("attachment", map[string]string{"filename": downloadName})
	}
	query := url.Values{
		"response-content-disposition": {disposition},
		"response-content-type":        {ref.ContentType},
	}
	if ref.VersionID != "" {
		query.Set("versionId", ref.VersionID)
	}
	return s.presign(ctx, http.MethodGet, ref, ttl, query, nil)
}

func (s *Store) presign(ctx context.Context, method string, ref functions.ObjectRef, ttl time.Duration, query url.Values, headers map[string]string) (functions.PresignedRequest, error) {
	if err := checkTTL(ttl); err != nil {
		return functions.PresignedRequest{}, err
	}
	extra := make(http.Header, len(headers))
	for k, v := range headers {
		extra.Set(k, v)
	}
	expires := time.Now().Add(ttl)
	u, err := s.signer.PresignHeader(ctx, method, ref.Bucket, ref.Key, ttl, query, extra)
	if err != nil {
		return functions.PresignedRequest{}, translate(ctx, err, "sign request for", ref.Bucket, ref.Key)
	}
	return functions.PresignedRequest{Method: method, URL: u.String(), Headers: headers, ExpiresAt: expires}, nil
}

func checkTTL(ttl time.Duration) error {
	if ttl < time.Second || ttl > maxSigned {
		return functions.Invalid("bad_ttl", "a signed request cannot live %s", ttl).WithHint("use 1s to 168h")
	}
	return nil
}
