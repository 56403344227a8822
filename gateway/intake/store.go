package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
)

// Bucket holds what comes in.
const Bucket = "uploads"

// InputKey is where an input of a task lies in Bucket.
func InputKey(id functions.TaskID, name string) string { return inputPrefix + string(id) + "/" + name }

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

// storeEvent keeps an event that is too large for the log.
func (d *Door) storeEvent(ctx context.Context, id functions.TaskID, event json.RawMessage) (functions.ObjectRef, error) {
	ref, err := d.cfg.Objects.Put(ctx, Bucket, eventPrefix+string(id), bytes.NewReader(event), int64(len(event)), "application/json")
	if err != nil {
		return functions.ObjectRef{}, fmt.Errorf("store event: %w", err)
	}
	return ref, nil
}
