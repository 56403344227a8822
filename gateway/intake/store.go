package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
)

// Bucket holds what comes in.
const Bucket = "uploads"

// MaxPut is the largest object that one request can store, by S3's rules.
const MaxPut = 5 * functions.GiB

// InputKey is where an input of a task lies in Bucket.
func InputKey(id functions.TaskID, name string) string { return InputPrefix + string(id) + "/" + name }

// StoreInput streams a file into the store as an input of the task that will get
// this id, and says what it is. A size of -1 means unknown. The reader's own
// error is returned wrapped, and nothing is stored then.
func (d *Door) StoreInput(ctx context.Context, id functions.TaskID, name string, r io.Reader, size int64, declared string) (functions.Input, content.Type, error) {
	if err := functions.FileName(name); err != nil {
		return functions.Input{}, content.Type{}, err
	}
	head, err := io.ReadAll(io.LimitReader(r, content.HeadSize))
	if err != nil {
		return functions.Input{}, content.Type{}, fmt.Errorf("read the body: %w", err)
	}
	if len(head) < content.HeadSize {
		r, size = bytes.NewReader(head), int64(len(head))
	} else {
		r = io.MultiReader(bytes.NewReader(head), r)
	}
	kind := content.Detect(head, name, declared)
	ref, err := d.cfg.Objects.Put(ctx, Bucket, InputKey(id, name), r, size, kind.ContentType)
	if err != nil {
		return functions.Input{}, content.Type{}, fmt.Errorf("store input: %w", err)
	}
	return functions.Input{Name: name, ObjectRef: ref}, kind, nil
}

// Refused reports whether a call that Accept answered with err certainly made no
// task. Other errors leave it open whether the log took it.
func Refused(err error) bool {
	var known *functions.Error
	return errors.As(err, &known) && !errors.Is(err, functions.ErrUnavailable) && !errors.Is(err, functions.ErrTimeout)
}

// Discard deletes inputs that were stored for a call that made no task. It goes
// on when the caller has left.
func (d *Door) Discard(ctx context.Context, inputs []functions.Input) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var failed error
	for _, in := range inputs {
		if in.Key == "" { // it lies elsewhere, and is not ours
			continue
		}
		if err := d.cfg.Objects.Delete(ctx, in.ObjectRef); err != nil {
			failed = errors.Join(failed, fmt.Errorf("delete input of a refused call: %w", err))
		}
	}
	return failed
}

// storeEvent keeps an event that is too large for the log.
func (d *Door) storeEvent(ctx context.Context, id functions.TaskID, event json.RawMessage) (functions.ObjectRef, error) {
	ref, err := d.cfg.Objects.Put(ctx, Bucket, EventPrefix+string(id), bytes.NewReader(event), int64(len(event)), "application/json")
	if err != nil {
		return functions.ObjectRef{}, fmt.Errorf("store event: %w", err)
	}
	return ref, nil
}
