package embedded

import (
	"context"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/s3response"
)

// CompleteMultipartUpload completes an upload that is there, one request at a
// time. The library says that it succeeded also when the upload is gone and the
// key has some object, and while another request is still at it and may fail.
func (o *outbox) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	var none s3response.CompleteMultipartUploadResult
	leave, err := o.completing.enter(ctx, strings.Clone(deref(in.UploadId)))
	if err != nil {
		return none, "", err
	}
	defer leave()
	ctx = throughStop(ctx)
	_, err = o.ListParts(ctx, &s3.ListPartsInput{Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId, MaxParts: new(int32(1))})
	if err != nil {
		return none, "", err
	}
	out, version, err := o.Backend.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return out, version, err
	}
	return out, version, o.commit(ctx, in.Bucket, in.Key, deref(out.ETag), version)
}

// turns lets one caller at a time in for each name.
type turns struct {
	mu sync.Mutex               // guards in
	in map[string]chan struct{} // each closed when its caller leaves
}

// enter waits for name's turn and returns how to end it.
func (t *turns) enter(ctx context.Context, name string) (leave func(), err error) {
	for {
		t.mu.Lock()
		other, busy := t.in[name]
		if !busy {
			mine := make(chan struct{})
			if t.in == nil {
				t.in = make(map[string]chan struct{})
			}
			t.in[name] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.in, name)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
