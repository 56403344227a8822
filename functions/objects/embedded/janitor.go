package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3response"
)

const (
	sweepEvery = time.Hour
	abandoned  = 24 * time.Hour // since the last part of an upload
	sweepPage  = 1000
)

// sweep removes abandoned uploads now and every hour, until ctx ends.
func sweep(ctx context.Context, be backend.Backend, log *slog.Logger) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		n, err := abortBefore(ctx, be, time.Now().Add(-abandoned))
		if err != nil && ctx.Err() == nil {
			log.Warn("abandoned uploads not removed", "err", err)
		}
		if n > 0 {
			log.Info("abandoned uploads removed", "count", n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// abortBefore removes every upload in parts whose last part came before t.
func abortBefore(ctx context.Context, be backend.Backend, t time.Time) (removed int, err error) {
	buckets, err := be.ListBuckets(ctx, s3response.ListBucketsInput{IsAdmin: true, MaxBuckets: sweepPage})
	if err != nil {
		return 0, fmt.Errorf("list buckets: %w", err)
	}
	for _, b := range buckets.Buckets.Bucket {
		in := s3.ListMultipartUploadsInput{Bucket: &b.Name, MaxUploads: new(int32(sweepPage))}
		for more := true; more && ctx.Err() == nil; {
			page, err := be.ListMultipartUploads(ctx, &in)
			if err != nil {
				return removed, fmt.Errorf("list uploads of %s: %w", b.Name, err)
			}
			for _, u := range page.Uploads {
				if u.Initiated.After(t) {
					continue
				}
				err := be.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.Name, Key: &u.Key, UploadId: &u.UploadID})
				if err != nil {
					return removed, fmt.Errorf("abort upload of %s/%s: %w", b.Name, u.Key, err)
				}
				removed++
			}
			more = page.IsTruncated
			in.KeyMarker, in.UploadIdMarker = &page.NextKeyMarker, &page.NextUploadIDMarker
		}
	}
	return removed, nil
}
