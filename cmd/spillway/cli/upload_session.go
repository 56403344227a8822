package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	"github.com/spillway/spillway/functions"
)

// onePut is the largest file that the gateway takes in one piece unless asked
// otherwise. Up to here the whole file's hash is worth a read before the upload.
const onePut = int64(64 * functions.MiB)

// session is an upload as the gateway shows it. What is signed in it is there
// only while the upload is awaited.
type session struct {
	ID        functions.TaskID            `json:"id"`
	State     functions.State             `json:"state"`
	Name      string                      `json:"name"`
	Size      int64                       `json:"size"`
	Function  functions.Name              `json:"function"`
	Upload    *functions.PresignedRequest `json:"upload"`
	Multipart *struct {
		functions.Multipart
		Received []functions.Part `json:"received"`
	} `json:"multipart"`
}

// ended reports whether nothing can be sent or followed any more.
func (s session) ended() bool {
	return s.State == functions.Expired || s.State == functions.Canceled
}

// open finds the upload to go on with, or begins one. An upload that is complete
// is returned as it is: its task is to be followed.
func (u *uploader) open(ctx context.Context, m *memory) (session, error) {
	if u.o.resume != "" {
		return u.named(ctx)
	}
	old := m.recall()
	switch {
	case old.ID == "":
	case u.o.noResume:
		u.say("upload %s is left as it is; beginning anew", old.ID)
	case !old.of(u.before):
		u.say("the file changed since upload %s began; beginning anew", old.ID)
	default:
		s, err := u.session(ctx, old.ID)
		switch {
		case errors.Is(err, functions.ErrNotFound):
			u.say("the gateway no longer knows upload %s; beginning anew", old.ID)
		case err != nil:
			return s, err
		case s.ended():
			u.say("upload %s has %s; beginning anew", s.ID, s.State)
		case s.State != functions.AwaitingUpload:
			u.say("upload %s was complete already; following its task", s.ID)
			return s, nil
		default:
			u.say("going on with upload %s", s.ID)
			return s, nil
		}
	}
	s, err := u.begin(ctx)
	if err != nil {
		return s, err
	}
	if err := m.keep(remembered{ID: s.ID, Path: u.path, Size: u.before.Size(), Modified: u.before.ModTime()}); err != nil {
		u.say("this upload cannot be remembered, so an interruption would begin it anew: %v", err)
	}
	return s, nil
}

// named returns the upload that --resume names. The caller means that one, so
// what does not fit is an error.
func (u *uploader) named(ctx context.Context) (session, error) {
	s, err := u.session(ctx, functions.TaskID(u.o.resume))
	if err != nil {
		return s, err
	}
	name := filepath.Base(u.path)
	switch {
	case s.Name != name || s.Size != u.before.Size():
		return s, usage("upload %s is of %q with %d bytes, and this is %q with %d", s.ID, s.Name, s.Size, name, u.before.Size())
	case u.o.function != "" && s.Function != "" && u.o.function != string(s.Function):
		return s, usage("upload %s is for function %s, not %s", s.ID, s.Function, u.o.function)
	case s.ended():
		return s, functions.Conflict("upload_ended", "upload %s has %s", s.ID, s.State).WithHint("begin anew, with --no-resume in place of --resume")
	}
	return s, nil
}

// session reads an upload, with freshly signed requests.
func (u *uploader) session(ctx context.Context, id functions.TaskID) (s session, err error) {
	_, err = u.c.get(ctx, uploadPath(id, ""), &s)
	return s, err
}

// again is session in the middle of an upload.
func (u *uploader) again(ctx context.Context, id functions.TaskID) (s session, err error) {
	err = patiently(ctx, func() error {
		s, err = u.session(ctx, id)
		return err
	})
	return s, err
}

// begin announces the file to the gateway, which says how it wants it.
func (u *uploader) begin(ctx context.Context) (s session, err error) {
	size := u.before.Size()
	ask := map[string]any{"function": u.o.function, "name": filepath.Base(u.path), "size": size, "content_type": contentType(u.path)}
	if u.o.device != "" {
		ask["device"] = u.o.device
	}
	if len(u.o.event) > 0 {
		ask["event"] = u.o.event
	}
	if size > onePut {
		ask["part_checksums"] = true
	} else if ask["sha256"], err = u.hash(0, size); err != nil {
		return s, err
	}
	raw, err := u.c.call(ctx, http.MethodPost, "/v1/uploads", ask)
	if err != nil {
		return s, err
	}
	warned(u.app, raw)
	return s, decode(raw, &s)
}

// hash returns the SHA-256 of a section of the file, in hex.
func (u *uploader) hash(off, length int64) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(u.file, off, length))
	if err == nil && n < length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", fmt.Errorf("read the file: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
