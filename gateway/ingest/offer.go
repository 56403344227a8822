package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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
// until the next listing, or for good when the same would fail again.
func (in *Ingest) Offer(ctx context.Context, h Hint) error {
	if h.Bucket == in.Results {
		return nil // outputs are there before their attempt is accepted: the log reports them
	}
	in.figures.hint(h.Source)
	if h.Bucket == in.Uploads && strings.HasPrefix(h.Key, intake.InputPrefix) {
		return in.uploaded(ctx, h)
	}
	if in.ours(h.Bucket, h.Key) {
		return nil
	}
	f := find{Hint: h}
	return in.takeOnce(ctx, f, match(in.Functions.List(), f))
}

// takeOnce is take for a hint that may say which content it is about. Of those
// that say the same, the first at a time does the work, and what has its tasks
// costs no look at the store. A lie gains nothing: it starts nothing, and what it
// keeps from being started has hints of its own.
func (in *Ingest) takeOnce(ctx context.Context, f find, found []candidate) error {
	if len(found) == 0 {
		return nil
	}
	id := f.claims()
	if id == "" {
		_, err := in.take(ctx, f, found)
		return err
	}
	mine := false
	v, err, _ := in.flights.Do(id, func() (any, error) {
		mine = true
		left, known, err := in.unknown(ctx, found, id)
		if err != nil {
			return in.take(ctx, f, found) // which asks again, and takes down why it failed
		}
		in.figures.duplicates(f.Source, known)
		f.looked = id
		n, err := in.take(ctx, f, left)
		n.known += known
		return n, err
	})
	if n := v.(tally); !mine {
		in.figures.duplicates(f.Source, n.started+n.known)
	}
	return err
}

// claims is the identity of the object as the hint says; empty when it does not.
func (h Hint) claims() string {
	if h.ETag == "" && (h.VersionID == "" || h.VersionID == "null") {
		return ""
	}
	return identity(functions.ObjectRef{Bucket: h.Bucket, Key: h.Key, VersionID: h.VersionID, ETag: h.ETag, Size: h.Size})
}

// ours reports whether an object can be no trigger's: a folder marker, which is
// no file, or what waits for a task.
func (in *Ingest) ours(bucket, key string) bool {
	return strings.HasSuffix(key, "/") ||
		bucket == in.Uploads && (strings.HasPrefix(key, intake.InputPrefix) || strings.HasPrefix(key, intake.EventPrefix))
}

// find is an object that somebody learnt of, with what is known of an output.
type find struct {
	Hint
	output string         // its name: triggers match it as well as the key, which begins with the task's id
	task   functions.Task // whose output it is
	dry    bool           // nothing is to be started
	looked string         // the identity for which no candidate has a task; empty = nobody looked
}

// matches reports whether a trigger wants the object.
func (f find) matches(t functions.Trigger, contentType string) bool {
	return t.Matches(f.Bucket, f.Key, contentType) || f.output != "" && t.Matches(f.Bucket, f.output, contentType)
}

// candidate is a function and those of its triggers that match by name.
type candidate struct {
	functions.Function
	triggers []functions.Trigger
}

func match(all []functions.Function, f find) (found []candidate) {
	for _, fn := range all {
		c := candidate{Function: fn}
		for _, t := range fn.Triggers {
			byName := t
			byName.ContentTypes = nil
			if f.matches(byName, "") {
				c.triggers = append(c.triggers, t)
			}
		}
		if len(c.triggers) > 0 {
			found = append(found, c)
		}
	}
	return found
}

// tally is what became of candidates.
type tally struct {
	started, known, unfit, rejected int
	later                           map[functions.Name]error // what failed and may work later
}

// take starts a task for each candidate that has none for the object.
func (in *Ingest) take(ctx context.Context, f find, found []candidate) (n tally, err error) {
	if len(found) == 0 {
		return n, nil
	}
	defer func() {
		if f.dry {
			return
		}
		in.figures.source(f.Source, func(x *functions.IngestSource) { x.Started += int64(n.started) })
		in.figures.duplicates(f.Source, n.known)
	}()
	// fail counts an error that strikes all candidates in cs.
	fail := func(id string, cs []candidate, err error) (tally, error) {
		for _, c := range cs {
			in.settle(ctx, &n, f, id, c, err)
		}
		return n, err
	}
	expect := f.Size
	if f.ETag == "" {
		expect = functions.UnknownSize
	}
	ref, head, err := in.Objects.Head(ctx, f.Bucket, f.Key, f.VersionID, expect, content.HeadSize)
	if gone(err) {
		n.unfit += len(found)
		return n, nil
	}
	if err != nil {
		return fail(f.Bucket+"/"+f.Key, found, fmt.Errorf("look at new object: %w", err))
	}
	id := identity(ref)
	left := found
	if id != f.looked {
		if left, n.known, err = in.unknown(ctx, found, id); err != nil {
			return fail(id, found, err)
		}
		n.unfit = len(found) - len(left) - n.known
	}
	if len(left) == 0 {
		return n, nil
	}
	ct := content.Detect(head, path.Base(ref.Key), ref.ContentType)
	var failed error
	for _, c := range left {
		err := in.start(ctx, &n, c, f, ref, ct)
		if err != nil {
			in.settle(ctx, &n, f, id, c, err)
		}
		failed = errors.Join(failed, err)
	}
	return n, failed
}

// settle counts an error of one candidate. What would fail again is logged, and
// not tried again.
func (in *Ingest) settle(ctx context.Context, n *tally, f find, id string, c candidate, err error) {
	if ctx.Err() == nil {
		in.figures.failed(f.Source, err)
	}
	if permanent(err) {
		n.rejected++
		if !in.wasRefused(id, c.Function) {
			in.refuse(id, c.Function)
			in.Logger.Warn("object cannot be taken in", "function", c.Name, "bucket", f.Bucket, "key", f.Key, "source", f.Source, "err", err)
		}
		return
	}
	if n.later == nil {
		n.later = make(map[functions.Name]error)
	}
	n.later[c.Name] = err
}

// unknown drops the functions that have a task for the object, which it counts,
// and those that do not take it. That spares reading it. Tasks may lag: the door
// decides.
func (in *Ingest) unknown(ctx context.Context, all []candidate, id string) (left []candidate, known int, err error) {
	for _, c := range all {
		_, has, err := in.Tasks.ByKey(ctx, c.Name, id)
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("look for the task of a new object: %w", err)
		case has:
			known++
		case !in.wasRefused(id, c.Function):
			left = append(left, c)
		}
	}
	return left, known, nil
}

// start accepts a task for the first trigger that matches.
func (in *Ingest) start(ctx context.Context, n *tally, c candidate, f find, ref functions.ObjectRef, ct content.Type) error {
	id := identity(ref)
	for _, t := range c.triggers {
		if !f.matches(t, ct.ContentType) {
			continue
		}
		if f.dry {
			n.started++
			return nil
		}
		event, err := eventOf(ref, in.Region, in.Now())
		if err != nil {
			return err
		}
		ref.ContentType = ct.ContentType
		call := intake.Call{
			Function: c.Name,
			Version:  c.Version,
			Policy:   t.Device,
			Event:    event,
			Inputs:   []functions.Input{{Name: fileName(ref.Key), ObjectRef: ref}},
			Source:   "s3",
			Key:      id,
			BodyHash: id, // the same object is the same request, whenever it is reported
			Content:  ct,
		}
		if f.output != "" {
			call.Parent, call.Depth = f.task.ID, f.task.Depth+1
		}
		ticket, err := in.Door.Accept(ctx, call)
		if err != nil {
			return fmt.Errorf("start %s for %s/%s: %w", c.Name, ref.Bucket, ref.Key, err)
		}
		if ticket.Replayed {
			n.known++
		} else {
			n.started++
		}
		return nil
	}
	in.refuse(id, c.Function)
	n.unfit++
	return nil
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
