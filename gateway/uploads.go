package gateway

import (
	"context"
	"encoding/json"
	"errors"
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
// to the store with signed requests (as one PUT, in parts, or by an HTML form)
// and says so; if it never says so, the store's event or the sweep finds the
// file. Whichever comes first starts the task, and the others change nothing. No
// byte of the file passes here.

const (
	maxMultipart = 5 << 40            // bytes of one object, by S3's rules
	onePut       = 64 * functions.MiB // the largest file that is one PUT unless the client chooses
	uploadTTL    = 15 * time.Minute   // of signed requests

	assembleTimeout = 10 * time.Minute // for the store to make a file of its parts
)

// The ways to send a file.
const (
	methodPut       = "put"
	methodMultipart = "multipart"
	methodForm      = "form"
)

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

type uploadRequest struct {
	Function      functions.Name   `json:"function"`
	Version       int              `json:"version"`
	Name          string           `json:"name"`
	Size          *int64           `json:"size"`
	Type          string           `json:"type"`
	ContentType   string           `json:"content_type"` // another name of type
	SHA256        string           `json:"sha256"`
	Device        functions.Policy `json:"device"`
	Event         json.RawMessage  `json:"event"`
	Params        json.RawMessage  `json:"params"`
	Metadata      json.RawMessage  `json:"metadata"`
	Method        string           `json:"method"`
	PartChecksums bool             `json:"part_checksums"`
}

type uploadView struct {
	ID          functions.TaskID            `json:"id"`
	State       functions.State             `json:"state"`
	Name        string                      `json:"name"`
	Size        int64                       `json:"size"` // functions.UnknownSize until a form's file is there
	Method      string                      `json:"method"`
	Function    functions.Name              `json:"function"`
	Upload      *functions.PresignedRequest `json:"upload,omitempty"`
	Multipart   *multipartView              `json:"multipart,omitempty"`
	Form        *functions.PostForm         `json:"form,omitempty"`
	CompleteURL string                      `json:"complete_url"`
	StatusURL   string                      `json:"status_url"`
	Warning     string                      `json:"warning,omitempty"` // why no node can ever run it
}

// check completes the request, and refuses one that no upload can serve.
func (u *uploadRequest) check() error {
	if err := functions.FileName(u.Name); err != nil {
		return err
	}
	if err := u.checkSize(); err != nil {
		return err
	}
	switch {
	case u.Method == methodForm && strings.Contains(u.Name, "${filename}"): // S3 would put the local name in its place
		return functions.Invalid("bad_file_name", "${filename} cannot stand in the name of a form's file").WithField("name").
			WithHint("choose another name, or another method")
	case u.PartChecksums && u.Method != methodMultipart:
		return functions.Invalid("bad_part_checksums", "an upload by %s has no parts", u.Method).WithField("part_checksums").
			WithHint("leave part_checksums out, or use method multipart")
	}
	if u.SHA256 = strings.ToLower(u.SHA256); u.SHA256 != "" && !sha256Pattern.MatchString(u.SHA256) {
		return functions.Invalid("bad_sha256", "sha256 is not 64 hexadecimal digits").WithField("sha256").
			WithHint("send the SHA-256 of the whole file in hex, or leave it out")
	}
	return u.checkType()
}

// checkSize chooses the method when the client did not.
func (u *uploadRequest) checkSize() error {
	if u.Size == nil && u.Method == methodForm {
		unknown := int64(functions.UnknownSize)
		u.Size = &unknown
		return nil
	}
	bad := func(format string, args ...any) *functions.Error {
		return functions.Invalid("bad_size", format, args...).WithField("size")
	}
	if u.Size == nil {
		return bad("size is missing").WithHint("send the file's size in bytes: the store takes exactly that")
	}
	most := int64(intake.MaxPut)
	switch u.Method {
	case "":
		u.Method = methodPut
		if *u.Size > int64(onePut) {
			u.Method, most = methodMultipart, maxMultipart
		}
	case methodMultipart:
		most = maxMultipart
	case methodPut, methodForm:
	default:
		return functions.Invalid("bad_method", "%.40q is not a way to send a file", u.Method).WithHint("use put, multipart or form").WithField("method")
	}
	switch {
	case *u.Size < 0:
		return bad("size %d is negative", *u.Size).WithHint("send the file's size in bytes")
	case *u.Size > most:
		return functions.NewError(functions.ErrTooLarge, "file_too_large", "%d bytes are over %s, the limit of method %s", *u.Size, functions.Bytes(most), u.Method).
			WithHint("use method multipart for up to 5TiB, or split the file").WithField("size")
	case *u.Size == 0 && u.Method == methodMultipart:
		return bad("an empty file has no parts").WithHint("use method put")
	}
	return nil
}

func (u *uploadRequest) checkType() error {
	field := "content_type"
	switch {
	case u.ContentType == "":
		u.ContentType, field = u.Type, "type"
	case u.Type != "" && u.Type != u.ContentType:
		return functions.Invalid("bad_content_type", "type and content_type differ").WithField("type").WithHint("they mean the same: send one")
	}
	if u.ContentType == "" {
		u.ContentType = content.Detect(nil, u.Name, "").ContentType
	}
	if strings.ContainsFunc(u.ContentType, func(r rune) bool { return r < 0x20 || r > 0x7e }) || len(u.ContentType) > 255 || !strings.Contains(u.ContentType, "/") {
		return functions.Invalid("bad_content_type", "%.80q is not a media type", u.ContentType).WithField(field).
			WithHint("send one such as video/mp4, or leave it out")
	}
	return nil
}

// createUpload accepts the task of a file that is still to come. An upload in
// parts is begun in the store before: the task carries the store's name for it.
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
		AwaitUpload: true, Form: ask.Method == methodForm,
		Source: "upload", Key: r.Header.Get("Idempotency-Key"), CallID: r.Header.Get("X-Call-Id"), Webhook: r.Header.Get("Spillway-Webhook"),
	}
	call.BodyHash = hashOf(&call, ask.Name, string(body))
	ref := functions.ObjectRef{
		Bucket: intake.Bucket, Key: intake.InputKey(call.ID, ask.Name), Size: *ask.Size, ContentType: ask.ContentType, SHA256: ask.SHA256,
	}
	call.Inputs = []functions.Input{{Name: ask.Name, ObjectRef: ref}}
	if ask.Method == methodMultipart {
		if _, err := g.cfg.Door.Explain(call); err != nil { // no such function: begin nothing
			return err
		}
		if call.Upload, err = g.beginMultipart(r.Context(), ref, ask.PartChecksums); err != nil {
			return err
		}
	}
	ticket, err := g.cfg.Door.Accept(r.Context(), call)
	if call.Upload != nil && (ticket.Replayed || intake.Refused(err)) {
		g.spent.add(ref, call.Upload.ID)
	}
	if err != nil {
		return err
	}
	if ticket.Replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	v, err := g.session(r.Context(), &ticket.Task, !ticket.Replayed)
	if err != nil {
		return err
	}
	v.Warning = g.warn(w.Header(), &ticket.Task)
	w.Header().Set("Location", "/v1/uploads/"+string(v.ID))
	return writeSession(w, r, http.StatusCreated, &v)
}

// session shows an upload, with fresh signed requests while it is awaited. A
// fresh upload has no parts yet, and the store is not asked for them.
func (g *Gateway) session(ctx context.Context, t *functions.Task, fresh bool) (v uploadView, err error) {
	v = uploadView{
		ID: t.ID, State: t.State, Method: methodOf(t), Function: t.Function,
		CompleteURL: "/v1/uploads/" + string(t.ID) + "/complete", StatusURL: "/v1/tasks/" + string(t.ID),
	}
	if len(t.Inputs) == 0 {
		return v, nil
	}
	v.Name, v.Size = t.Inputs[0].Name, t.Inputs[0].Size
	if t.State != functions.AwaitingUpload {
		return v, nil
	}
	switch ref := t.Inputs[0].ObjectRef; v.Method {
	case methodMultipart:
		v.Multipart, err = g.multipart(ctx, t, fresh)
		if errors.Is(err, functions.ErrNotFound) { // it is being made, or was and nobody said so
			var now functions.Task
			if now, err = g.arrived(ctx, *t, "client"); err == nil {
				return g.session(ctx, &now, false)
			}
		}
	case methodForm:
		var form functions.PostForm
		least, most := ref.Size, ref.Size
		if ref.Size == functions.UnknownSize {
			least, most = 0, int64(intake.MaxPut)
		}
		form, err = g.cfg.Objects.PresignPost(ctx, ref, least, most, uploadTTL)
		v.Form = &form
	default:
		var to functions.PresignedRequest
		to, err = g.cfg.Objects.PresignPut(ctx, ref, uploadTTL)
		v.Upload = &to
	}
	if err != nil {
		return v, fmt.Errorf("offer the upload: %w", err)
	}
	return v, nil
}

func methodOf(t *functions.Task) string {
	switch {
	case t.Upload != nil:
		return methodMultipart
	case t.Form:
		return methodForm
	}
	return methodPut
}

// uploadOf reads the task of an upload; tasks that came otherwise are none.
func (g *Gateway) uploadOf(r *http.Request) (functions.Task, error) {
	t, err := g.taskOf(r.Context(), r)
	if err == nil && t.Source != "upload" {
		return t, functions.NotFound("no_such_upload", "task %s is not an upload", t.ID).WithHint("its state is at /v1/tasks/%s", t.ID)
	}
	return t, err
}

func (g *Gateway) getUpload(w http.ResponseWriter, r *http.Request) error {
	t, err := g.uploadOf(r)
	if err != nil {
		return err
	}
	v, err := g.session(r.Context(), &t, false)
	if err != nil {
		return err
	}
	return writeSession(w, r, http.StatusOK, &v)
}

// deleteUpload cancels the task. Parts that the store holds of it are given up.
func (g *Gateway) deleteUpload(w http.ResponseWriter, r *http.Request) error {
	t, err := g.uploadOf(r)
	if err != nil {
		return err
	}
	return g.cancelTask(w, r, t)
}

// completeUpload starts the task once its file is there. Completing twice is
// answered like once.
func (g *Gateway) completeUpload(w http.ResponseWriter, r *http.Request) error {
	t, err := g.uploadOf(r)
	if err != nil {
		return err
	}
	if t, err = g.arrived(r.Context(), t, "client"); err != nil {
		return err
	}
	if t.State == functions.Expired || t.State == functions.Canceled {
		return ended(&t)
	}
	return g.showAfter(w, r, &t)
}

// arrived starts the task whose file is in the store, after making the file of
// its parts when it came so.
func (g *Gateway) arrived(ctx context.Context, t functions.Task, by string) (functions.Task, error) {
	if t.State != functions.AwaitingUpload || t.Upload == nil {
		return g.cfg.Door.Arrived(ctx, t, by)
	}
	// While a store makes an object it may show neither parts nor object, so
	// whoever asks meanwhile gets the answer of the one who is at it. That goes on
	// when its caller leaves: the parts of a large file take a while.
	made := g.arrivals.DoChan(string(t.ID), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), assembleTimeout)
		defer cancel()
		return g.assembled(ctx, t, by)
	})
	select {
	case r := <-made:
		return r.Val.(functions.Task), r.Err
	case <-ctx.Done():
		return t, context.Cause(ctx)
	}
}

func (g *Gateway) assembled(ctx context.Context, t functions.Task, by string) (functions.Task, error) {
	how, err := g.assemble(ctx, &t)
	if err != nil {
		return t, err
	}
	now, err := g.cfg.Door.Arrived(ctx, t, by)
	var why *functions.Error
	switch {
	case err == nil && how == already:
		g.spent.add(t.Inputs[0].ObjectRef, t.Upload.ID)
	case how == unknown && errors.As(err, &why) && why.Code == "not_uploaded":
		return t, functions.Conflict("upload_ended", "the store has given up the parts of upload %s", t.ID).WithHint("start a new upload").WithCause(err)
	}
	return now, err
}

// ended is the answer to whoever goes on with an upload that awaits nothing.
func ended(t *functions.Task) *functions.Error {
	e := functions.Conflict("upload_ended", "upload %s awaits no file any more: its task is %s", t.ID, t.State)
	if t.State == functions.Expired || t.State == functions.Canceled {
		return e.WithHint("start a new upload")
	}
	return e.WithHint("follow its task at /v1/tasks/%s", t.ID)
}
