package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// An upload is a task that awaits its file. The client sends the file straight
// to the store with a signed request and says so; if it never says so, the
// store's event or the sweep finds the file. Whichever comes first starts the
// task, and the others change nothing.

const (
	maxUpload = 5 * functions.GiB // of one PUT, by S3's rules
	uploadTTL = 15 * time.Minute  // of the signed request
)

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

type uploadRequest struct {
	Function    functions.Name   `json:"function"`
	Version     int              `json:"version"`
	Name        string           `json:"name"`
	Size        *int64           `json:"size"`
	ContentType string           `json:"content_type"`
	SHA256      string           `json:"sha256"`
	Device      functions.Policy `json:"device"`
	Event       json.RawMessage  `json:"event"`
	Params      json.RawMessage  `json:"params"`
	Metadata    json.RawMessage  `json:"metadata"`
}

type uploadView struct {
	ID          functions.TaskID            `json:"id"`
	State       functions.State             `json:"state"`
	Name        string                      `json:"name"`
	Size        int64                       `json:"size"`
	Upload      *functions.PresignedRequest `json:"upload,omitempty"`
	CompleteURL string                      `json:"complete_url"`
	StatusURL   string                      `json:"status_url"`
}

func (u *uploadRequest) check() error {
	if err := functions.FileName(u.Name); err != nil {
		return err
	}
	switch {
	case u.Size == nil:
		return functions.Invalid("bad_size", "size is missing").WithHint("send the file's size in bytes: the store takes exactly that").WithField("size")
	case *u.Size < 0:
		return functions.Invalid("bad_size", "size %d is negative", *u.Size).WithField("size")
	case *u.Size > int64(maxUpload):
		return functions.NewError(functions.ErrTooLarge, "file_too_large", "%d bytes are over %s", *u.Size, maxUpload).
			WithHint("split the file, or put it into a watched bucket with an S3 client").WithField("size")
	}
	if u.SHA256 = strings.ToLower(u.SHA256); u.SHA256 != "" && !sha256Pattern.MatchString(u.SHA256) {
		return functions.Invalid("bad_sha256", "sha256 is not 64 hexadecimal digits").WithField("sha256")
	}
	if u.ContentType == "" {
		u.ContentType = content.Detect(nil, u.Name, "").ContentType
	}
	if strings.ContainsFunc(u.ContentType, func(r rune) bool { return r < 0x20 || r > 0x7e }) || len(u.ContentType) > 255 || !strings.Contains(u.ContentType, "/") {
		return functions.Invalid("bad_content_type", "%.80q is not a media type", u.ContentType).WithField("content_type")
	}
	return nil
}

func (g *Gateway) createUpload(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, maxSmall)
	if err != nil {
		return err
	}
	var ask uploadRequest
	if err := strictJSON(body, &ask); err != nil {
		return err
	}
	if err := ask.check(); err != nil {
		return err
	}
	call := intake.Call{
		ID: g.cfg.Door.NewID(), Function: ask.Function, Version: ask.Version, Policy: ask.Device,
		Content: content.Detect(nil, ask.Name, ask.ContentType), Event: ask.Event, Params: ask.Params, Metadata: ask.Metadata,
		AwaitUpload: true, Source: "upload", Key: r.Header.Get("Idempotency-Key"), CallID: r.Header.Get("X-Call-Id"),
	}
	call.BodyHash = hashOf(&call, ask.Name, string(body))
	call.Inputs = []functions.Input{{Name: ask.Name, ObjectRef: functions.ObjectRef{
		Bucket: intake.Bucket, Key: intake.InputKey(call.ID, ask.Name), Size: *ask.Size, ContentType: ask.ContentType, SHA256: ask.SHA256,
	}}}
	ticket, err := g.cfg.Door.Accept(r.Context(), call)
	if err != nil {
		return err
	}
	if ticket.Replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	v, err := g.session(r.Context(), &ticket.Task)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/uploads/"+string(v.ID))
	return writeJSON(w, http.StatusCreated, v)
}

// session shows an upload, with a fresh signed request while it is awaited.
func (g *Gateway) session(ctx context.Context, t *functions.Task) (uploadView, error) {
	v := uploadView{ID: t.ID, State: t.State, CompleteURL: "/v1/uploads/" + string(t.ID) + "/complete", StatusURL: "/v1/tasks/" + string(t.ID)}
	if len(t.Inputs) > 0 {
		v.Name, v.Size = t.Inputs[0].Name, t.Inputs[0].Size
	}
	if t.State != functions.AwaitingUpload || len(t.Inputs) == 0 {
		return v, nil
	}
	to, err := g.cfg.Objects.PresignPut(ctx, t.Inputs[0].ObjectRef, uploadTTL)
	if err != nil {
		return v, fmt.Errorf("sign the upload: %w", err)
	}
	v.Upload = &to
	return v, nil
}

// uploadOf reads the task of an upload; tasks that came otherwise are none.
func (g *Gateway) uploadOf(r *http.Request) (functions.Task, error) {
	t, err := g.taskOf(r.Context(), r)
	if err == nil && t.Source != "upload" {
		return t, functions.NotFound("no_such_upload", "task %s is not an upload", t.ID)
	}
	return t, err
}

func (g *Gateway) getUpload(w http.ResponseWriter, r *http.Request) error {
	t, err := g.uploadOf(r)
	if err != nil {
		return err
	}
	v, err := g.session(r.Context(), &t)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v)
}

// completeUpload starts the task once its file is there. Completing twice is
// answered like once.
func (g *Gateway) completeUpload(w http.ResponseWriter, r *http.Request) error {
	t, err := g.uploadOf(r)
	if err != nil {
		return err
	}
	if t, err = g.arrived(r.Context(), t); err != nil {
		return err
	}
	if t.State == functions.Expired || t.State == functions.Canceled {
		return functions.Conflict("upload_ended", "upload %s has %s", t.ID, t.State).WithHint("start a new upload")
	}
	return g.showAfter(w, r, &t)
}
