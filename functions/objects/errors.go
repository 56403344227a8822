package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/functions"
)

// code is the S3 code of an error; empty when the store did not answer.
func code(err error) string {
	var resp minio.ErrorResponse
	if errors.As(err, &resp) {
		return resp.Code
	}
	return ""
}

// translate gives an error of the library its class, by code and type. A
// canceled context stays recognisable as such.
func translate(ctx context.Context, err error, verb, bucket, key string) error {
	if err == nil {
		return nil
	}
	var known *functions.Error
	if errors.As(err, &known) {
		return err
	}
	what := bucket
	if key != "" {
		what += "/" + key
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s %s: %w", verb, what, context.Cause(ctx))
	}
	var resp minio.ErrorResponse
	if errors.As(err, &resp) {
		return fmt.Errorf("%s %s: %w", verb, what, byCode(resp, what).WithCause(err))
	}
	var (
		netErr net.Error
		urlErr *url.Error
		opErr  *net.OpError
	)
	if errors.As(err, &netErr) || errors.As(err, &urlErr) || errors.As(err, &opErr) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s %s: %w", verb, what, unavailable().WithCause(err))
	}
	return fmt.Errorf("%s %s: %w", verb, what, err)
}

func unavailable() *functions.Error {
	return functions.Unavailable("store_unavailable", "the object store does not answer").
		WithHint("see whether the store runs, and whether this machine reaches its address")
}

func byCode(resp minio.ErrorResponse, what string) *functions.Error {
	switch resp.Code {
	case minio.NoSuchKey, minio.NoSuchBucket, minio.NoSuchVersion:
		return functions.NotFound("object_not_found", "%s is not in the object store", what)
	case minio.NoSuchUpload:
		return functions.NotFound("upload_not_found", "no upload of %s is under way by that name", what).
			WithHint("it was completed or aborted, or grew too old")
	case minio.PreconditionFailed:
		return functions.Conflict("object_changed", "%s is not the object that was asked for", what)
	case minio.NotImplemented:
		return functions.Unavailable("store_unsupported", "this object store cannot do that")
	case minio.EntityTooLarge:
		return functions.NewError(functions.ErrTooLarge, "object_too_large", "%s is too large for the object store", what)
	}
	switch {
	case resp.StatusCode == http.StatusNotFound,
		resp.StatusCode == http.StatusMethodNotAllowed: // the version is a delete marker
		return functions.NotFound("object_not_found", "%s is not in the object store", what)
	case resp.StatusCode == http.StatusPreconditionFailed, resp.StatusCode == http.StatusConflict:
		return functions.Conflict("object_changed", "%s is not the object that was asked for", what)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return functions.NewError(functions.ErrForbidden, "store_forbidden", "the object store refuses the key").
			WithHint("see the access key, the secret key and the policy of the store")
	case resp.StatusCode == http.StatusTooManyRequests:
		return functions.NewError(functions.ErrThrottled, "store_busy", "the object store asks to slow down")
	case resp.StatusCode >= 400 && resp.StatusCode < 500:
		return functions.Invalid("store_refused", "the object store refuses the request: %s", resp.Code)
	}
	return unavailable()
}
