package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// Offer starts what the object at h starts, unless that was started before. An
// object that starts nothing, is gone, or was replaced meanwhile is no error:
// the newer content has its own hint. An error means that a task may be missing
// until the next listing.
func (in *Ingest) Offer(ctx context.Context, h Hint) error {
	_, err := in.offer(ctx, h)
	return err
}

// offer returns how many tasks it started.
func (in *Ingest) offer(ctx context.Context, h Hint) (started int, err error) {
	if h.Bucket == in.Results || strings.HasSuffix(h.Key, "/") {
		return 0, nil // our own outputs must not start us again; a folder marker is no file
	}
	if h.Bucket == in.Uploads {
		switch {
		case strings.HasPrefix(h.Key, awaitedPrefix):
			return 0, in.uploaded(ctx, h)
		case strings.HasPrefix(h.Key, "ev/"): // an event too large for the log
			return 0, nil
		}
	}
	found := in.match(h.Bucket, h.Key)
	if len(found) == 0 {
		return 0, nil
	}
	ref, err := in.Objects.Stat(ctx, h.Bucket, h.Key, h.VersionID)
	if gone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at new object: %w", err)
	}
	found, err = in.unknown(ctx, found, identity(ref))
	if err != nil || len(found) == 0 {
		return 0, err
	}
	ct, err := in.sniff(ctx, ref)
	if gone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("tell the type of new object: %w", err)
	}
	var failed error
	for _, f := range found {
		fresh, err := in.start(ctx, f, ref, ct)
		failed = errors.Join(failed, err)
		if fresh {
			started++
		}
	}
	return started, failed
}

// candidate is a function and those of its triggers that match by name.
type candidate struct {
	functions.Function
	triggers []functions.Trigger
}

func (in *Ingest) match(bucket, key string) (found []candidate) {
	for _, f := range in.Functions.List() {
		c := candidate{Function: f}
		for _, t := range f.Triggers {
			byName := t
			byName.ContentTypes = nil
			if byName.Matches(bucket, key, "") {
				c.triggers = append(c.triggers, t)
			}
		}
		if len(c.triggers) > 0 {
			found = append(found, c)
		}
	}
	return found
}

// unknown drops the functions that have a task for the object, which spares
// reading it. Tasks may lag: the door decides.
func (in *Ingest) unknown(ctx context.Context, all []candidate, id string) (left []candidate, err error) {
	for _, c := range all {
		_, known, err := in.Tasks.ByKey(ctx, c.Name, id)
		if err != nil {
			return nil, fmt.Errorf("look for the task of a new object: %w", err)
		}
		if !known && !in.wasRefused(id, c.Function) {
			left = append(left, c)
		}
	}
	return left, nil
}

// start accepts a task for the first trigger that matches; fresh means that the
// object had none.
func (in *Ingest) start(ctx context.Context, c candidate, ref functions.ObjectRef, ct content.Type) (fresh bool, err error) {
	id := identity(ref)
	for _, t := range c.triggers {
		if !t.Matches(ref.Bucket, ref.Key, ct.ContentType) {
			continue
		}
		event, err := eventOf(ref, in.Region, in.Now())
		if err != nil {
			return false, err
		}
		ref.ContentType = ct.ContentType
		ticket, err := in.Door.Accept(ctx, intake.Call{
			Function: c.Name,
			Version:  c.Version,
			Policy:   t.Device,
			Event:    event,
			Inputs:   []functions.Input{{Name: fileName(ref.Key), ObjectRef: ref}},
			Source:   "s3",
			Key:      id,
			BodyHash: id, // the same object is the same request, whenever it is reported
			Content:  ct,
		})
		if err != nil {
			return false, fmt.Errorf("start %s for %s/%s: %w", c.Name, ref.Bucket, ref.Key, err)
		}
		return !ticket.Replayed, nil
	}
	in.refuse(id, c.Function)
	return false, nil
}

func (in *Ingest) sniff(ctx context.Context, ref functions.ObjectRef) (content.Type, error) {
	head := []byte{} // not nil: that there are no bytes is known, too
	if ref.Size > 0 {
		r, err := in.Objects.GetRange(ctx, ref, 0, content.HeadSize)
		if err != nil {
			return content.Type{}, err
		}
		defer r.Close()
		if head, err = io.ReadAll(io.LimitReader(r, content.HeadSize)); err != nil {
			return content.Type{}, err
		}
	}
	return content.Detect(head, path.Base(ref.Key), ref.ContentType), nil
}

// maxRefused bounds the memory of what does not match; past it, it is learnt anew.
const maxRefused = 100_000

func refusedKey(id string, f functions.Function) string {
	return string(f.Name) + "|" + strconv.Itoa(f.Version) + "|" + id
}

func (in *Ingest) wasRefused(id string, f functions.Function) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, ok := in.refused[refusedKey(id, f)]
	return ok
}

func (in *Ingest) refuse(id string, f functions.Function) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.refused) >= maxRefused {
		clear(in.refused)
	}
	in.refused[refusedKey(id, f)] = struct{}{}
}

// gone reports whether the content that a hint was about is not there any more.
func gone(err error) bool {
	return errors.Is(err, functions.ErrNotFound) || errors.Is(err, functions.ErrConflict)
}

// maxIdentity is the longest key that the door takes.
const maxIdentity = 255

// identity names one content of one key. The ETag alone would not do: a copy of
// an object that came in parts has another one. The object's key is encoded, so
// that it holds no separator, or hashed when it is very long.
func identity(ref functions.ObjectRef) string {
	parts := []string{"s3", ref.Bucket, formKey(ref.Key), ref.VersionID}
	if ref.VersionID == "" || ref.VersionID == "null" { // "null": from before the bucket had versions
		parts = []string{"s3", ref.Bucket, formKey(ref.Key), ref.ETag, strconv.FormatInt(ref.Size, 10)}
	}
	id := strings.Join(parts, "|")
	if len(id) > maxIdentity {
		sum := sha256.Sum256([]byte(id))
		id = "s3|sha256|" + hex.EncodeToString(sum[:])
	}
	return id
}

// fileName is the key's last element, made fit to name a file.
func fileName(key string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '\\' {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(path.Base(key), "_"))
	for len(name) > 255 { // keep the end, where the extension is
		name = strings.ToValidUTF8(name[len(name)-255:], "")
	}
	if functions.FileName(name) != nil {
		return "object"
	}
	return name
}
