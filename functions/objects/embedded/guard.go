package embedded

import (
	"context"
	"path"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// The library joins names of a request to paths. It looks at keys in addresses
// alone, and there lets through what ends within the bucket under another name.
// These names are refused here: a key that its file would not have, and an
// upload or version whose name leads elsewhere.

// keyOK is for keys that make or remove an object. A key that ends with a slash
// is a folder's.
func keyOK(key *string) error {
	k := deref(key)
	first, _, _ := strings.Cut(k, "/")
	if !filepath.IsLocal(k) || path.Clean(k) != strings.TrimSuffix(k, "/") || first == posix.MetaTmpDir {
		return s3err.GetAPIError(s3err.ErrBadRequest)
	}
	return nil
}

func uploadOK(id *string) error {
	if s := deref(id); !plainName(s) {
		return s3err.GetNoSuchUploadErr(s)
	}
	return nil
}

func plainName(s string) bool {
	return filepath.IsLocal(s) && s != "." && !strings.Contains(s, "/")
}

func (o *outbox) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	if err := keyOK(in.Key); err != nil {
		return s3response.InitiateMultipartUploadResult{}, err
	}
	return o.Backend.CreateMultipartUpload(ctx, in)
}

func (o *outbox) UploadPartCopy(ctx context.Context, in *s3.UploadPartCopyInput) (s3response.CopyPartResult, error) {
	if err := uploadOK(in.UploadId); err != nil {
		return s3response.CopyPartResult{}, err
	}
	return o.Backend.UploadPartCopy(throughStop(ctx), in)
}

func (o *outbox) ListParts(ctx context.Context, in *s3.ListPartsInput) (s3response.ListPartsResult, error) {
	if err := uploadOK(in.UploadId); err != nil {
		return s3response.ListPartsResult{}, err
	}
	return o.Backend.ListParts(ctx, in)
}

func (o *outbox) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput) error {
	if err := uploadOK(in.UploadId); err != nil {
		return err
	}
	return o.Backend.AbortMultipartUpload(ctx, in)
}

func (o *outbox) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	if err := keyOK(in.Key); err != nil {
		return nil, err
	}
	return o.Backend.DeleteObject(ctx, in)
}

// DeleteObjects removes all that are named or, when a name is bad, none.
func (o *outbox) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	for _, obj := range in.Delete.Objects {
		if err := keyOK(obj.Key); err != nil {
			return s3response.DeleteResult{}, err
		}
		if v := deref(obj.VersionId); v != "" && !plainName(v) {
			return s3response.DeleteResult{}, s3err.GetAPIError(s3err.ErrNoSuchVersion)
		}
	}
	return o.Backend.DeleteObjects(ctx, in)
}
