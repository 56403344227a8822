package seed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
)

// Bounds of the form beside its file.
const (
	maxField = 64 * functions.KiB
	maxParts = 64
)

// form is a multipart body that has been read. Its file is in the store.
type form struct {
	input   *functions.Input
	content content.Type
	fields  map[string]string
}

// readForm reads every part of the body, in whatever order the client sends
// them, and stores the file as it passes.
func (a *API) readForm(ctx context.Context, r *http.Request, id functions.TaskID) (form, error) {
	f := form{fields: map[string]string{}}
	parts, err := r.MultipartReader()
	if err != nil {
		return f, functions.Invalid("bad_form", "the body is not multipart/form-data").WithHint("send it with curl -F file=@NAME")
	}
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, broken(err)
		}
		if n >= maxParts {
			return f, functions.Invalid("bad_form", "the form has over %d parts", maxParts)
		}
		if part.FormName() == "file" {
			err = a.storeFile(ctx, &f, part, id)
		} else {
			err = f.readField(part)
		}
		if err != nil {
			return f, err
		}
	}
	if f.input == nil {
		return f, functions.Invalid("missing_file", "the form has no part named file that holds a file").WithField("file").WithHint("send it with curl -F file=@NAME")
	}
	return f, nil
}

func (a *API) storeFile(ctx context.Context, f *form, part *multipart.Part, id functions.TaskID) error {
	name := part.FileName()
	if i := strings.LastIndexByte(name, '\\'); i >= 0 { // old browsers on Windows send the whole path
		name = name[i+1:]
	}
	switch {
	case name == "":
		return functions.Invalid("missing_file", "the part named file holds no file name").WithField("file").WithHint("send it with curl -F file=@NAME")
	case f.input != nil:
		return functions.Invalid("bad_form", "the form has two files").WithField("file").WithHint("send one request for each file")
	}
	body := &source{r: part}
	in, kind, err := a.cfg.Door.StoreInput(ctx, id, name, body, -1, part.Header.Get("Content-Type"))
	if body.err != nil { // the client's fault, whatever the store made of it
		return broken(body.err)
	}
	if err != nil {
		return fmt.Errorf("store file: %w", err)
	}
	f.input, f.content = &in, kind
	return nil
}

// source remembers that the client, and not the store, broke the stream.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// broken gives an error of reading the body its class, unless it has one.
func broken(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return functions.Invalid("bad_form", "the multipart body ends too early or is malformed").WithCause(err)
}

func (f *form) readField(part *multipart.Part) error {
	name := part.FormName()
	text, err := io.ReadAll(io.LimitReader(part, int64(maxField)+1))
	if err != nil {
		return broken(err)
	}
	if len(text) > int(maxField) {
		return functions.NewError(functions.ErrTooLarge, "field_too_large", "the field %.40q is over %v", name, maxField).WithField("form")
	}
	f.fields[name] = string(text)
	return nil
}

// flag reads a switch.
func (f *form) flag(name string) (bool, error) {
	return truth(name, f.fields[name])
}

// truth reads a switch in the words that the older service took.
func truth(name, text string) (bool, error) {
	switch v := strings.ToLower(strings.TrimSpace(text)); v {
	case "true", "1", "on", "yes", "t", "y":
		return true, nil
	case "", "false", "0", "off", "no", "f", "n":
		return false, nil
	default:
		return false, functions.Invalid("bad_field", "%s: %.40q is not true or false", name, v).WithField(name)
	}
}

// kept is what a task remembers of its request, for the client.
type kept struct {
	SourceType string          `json:"source_type,omitempty"`
	WebhookURL string          `json:"webhook_url,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
}

// memory is what goes with a call: kept, packed, and the webhook in it.
type memory struct {
	metadata json.RawMessage
	webhook  string
}

// metadata checks and packs what a task remembers of the form.
func (f *form) metadata() (memory, error) {
	return pack(f.fields["source_type"], f.fields["webhook_url"], []byte(f.fields["metadata"]))
}

// pack checks and packs what a task remembers of its request.
func pack(sourceType, webhookURL string, metadata []byte) (memory, error) {
	k := kept{SourceType: strings.TrimSpace(sourceType), WebhookURL: strings.TrimSpace(webhookURL)}
	if k.WebhookURL != "" {
		u, err := url.Parse(k.WebhookURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return memory{}, functions.Invalid("bad_field", "webhook_url: %.80q is not an http or https URL", k.WebhookURL).WithField("webhook_url")
		}
	}
	if m := bytes.TrimSpace(metadata); len(m) > 0 {
		if !json.Valid(m) || m[0] != '{' && string(m) != "null" {
			return memory{}, functions.Invalid("bad_field", "metadata: not a JSON object").WithField("metadata")
		}
		k.Metadata = m
	}
	if k.SourceType == "" && k.WebhookURL == "" && k.Metadata == nil {
		return memory{}, nil
	}
	text, err := json.Marshal(k)
	if err != nil {
		return memory{}, fmt.Errorf("pack metadata: %w", err)
	}
	return memory{text, k.WebhookURL}, nil
}
