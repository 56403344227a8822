package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

func (g *Gateway) invokeAsync(w http.ResponseWriter, r *http.Request) error {
	return g.run(w, r, preference{async: true, applied: "respond-async"})
}

// invoke runs a function for the caller, who waits for its result or, on
// request or when it takes too long, gets the task to come back to.
func (g *Gateway) invoke(w http.ResponseWriter, r *http.Request) error {
	p, err := preferenceOf(r)
	if err != nil {
		return err
	}
	return g.run(w, r, p)
}

// run is the path of an invocation as far as carry: body to call.
func (g *Gateway) run(w http.ResponseWriter, r *http.Request, p preference) error {
	call, err := g.callOf(r)
	if err != nil {
		return err
	}
	if _, err := g.cfg.Door.Explain(call); err != nil { // no such function: say so before the body is read
		return err
	}
	limit := maxSync
	if p.async {
		limit = maxAsync
	}
	if err := g.readInto(w, r, &call, limit); err != nil {
		return err
	}
	return g.carry(w, r, call, p)
}

// carry takes a call the rest of the way: call to task, task to answer.
func (g *Gateway) carry(w http.ResponseWriter, r *http.Request, call intake.Call, p preference) error {
	ctx := r.Context()
	end, leave := g.Feed.ended(call.ID) // before the task exists, so that its end cannot be missed
	defer leave()
	ticket, err := g.cfg.Door.Accept(ctx, call)
	if err != nil || ticket.Replayed {
		g.discard(ctx, call.Inputs, err)
	}
	if err != nil {
		return err
	}
	t := ticket.Task
	if ticket.Replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	if !p.async && g.foresee(&t) == "" { // what no node can run is better said now than after the wait
		if t, err = g.waitEnd(ctx, t, end, t.ID == call.ID && !ticket.Replayed, p.wait); err != nil {
			return err
		}
	}
	g.taskHeaders(w.Header(), &t)
	if p.applied != "" {
		w.Header().Set("Preference-Applied", p.applied)
	}
	if p.async || !t.State.Final() {
		return g.accepted(w, &t)
	}
	return g.answer(w, r, &t)
}

// callOf reads all of a call but its body.
func (g *Gateway) callOf(r *http.Request) (c intake.Call, err error) {
	c = g.newCall(r)
	if c.Function, err = pathName(r); err != nil {
		return c, err
	}
	q := r.URL.Query()
	if v := q.Get("version"); v != "" {
		if c.Version, err = strconv.Atoi(v); err != nil || c.Version < 1 {
			return c, functions.Invalid("bad_version", "%.40q is not a version", v).WithHint("use a number from 1, or leave it out for the newest").WithField("version")
		}
	}
	device := r.Header.Get("Spillway-Device")
	if device == "" {
		device = q.Get("device")
	}
	c.Policy = functions.Policy(strings.ToLower(device))
	return c, nil
}

// newCall is a call with what its headers say of every kind of call.
func (g *Gateway) newCall(r *http.Request) intake.Call {
	c := intake.Call{ID: g.cfg.Door.NewID(), Source: "http", Key: r.Header.Get("Idempotency-Key"), CallID: r.Header.Get("X-Call-Id"), Webhook: r.Header.Get("Spillway-Webhook")}
	if s := r.Header.Get("Spillway-Source"); s == "cli" {
		c.Source = s
	}
	return c
}

// readInto takes the body: JSON becomes the event, anything else an input file.
func (g *Gateway) readInto(w http.ResponseWriter, r *http.Request, c *intake.Call, limit functions.Bytes) error {
	declared := r.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(declared)
	switch {
	case declared != "" && err != nil:
		return functions.Invalid("bad_content_type", "%.80q is not a media type", declared).WithField("Content-Type")
	case kind == "multipart/form-data":
		return functions.Invalid("form_body", "a form is not taken here").
			WithHint("send the file itself as the body (curl --data-binary @FILE -H 'Content-Type: TYPE'), or POST /v1/uploads")
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		return g.readEvent(w, r, c, limit)
	case kind == "" || kind == "application/x-www-form-urlencoded": // what HTTP clients send when told nothing
		return g.readAny(w, r, c, limit)
	}
	name, err := fileName(r)
	if err != nil {
		return err
	}
	body, err := limited(w, r, limit)
	if err != nil {
		return err
	}
	in, what, err := g.cfg.Door.StoreInput(r.Context(), c.ID, name, body, r.ContentLength, declared)
	if err != nil {
		return broken(err)
	}
	c.Inputs, c.Content = []functions.Input{in}, what
	c.BodyHash = hashOf(c, name, in.SHA256)
	return nil
}

func (g *Gateway) readEvent(w http.ResponseWriter, r *http.Request, c *intake.Call, limit functions.Bytes) error {
	b, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	c.Content = content.JSON()
	if len(bytes.TrimSpace(b)) > 0 {
		c.Event = json.RawMessage(b)
	}
	c.BodyHash = hashOfBytes(c, "", b)
	return nil
}

// readAny takes a body of no declared type: an event when it is JSON, else a file.
func (g *Gateway) readAny(w http.ResponseWriter, r *http.Request, c *intake.Call, limit functions.Bytes) error {
	b, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 || json.Valid(b) {
		if len(bytes.TrimSpace(b)) > 0 {
			c.Event, c.Content = b, content.JSON()
		}
		c.BodyHash = hashOfBytes(c, "", b)
		return nil
	}
	name, err := fileName(r)
	if err != nil {
		return err
	}
	in, what, err := g.cfg.Door.StoreInput(r.Context(), c.ID, name, bytes.NewReader(b), int64(len(b)), "")
	if err != nil {
		return err
	}
	c.Inputs, c.Content = []functions.Input{in}, what
	c.BodyHash = hashOfBytes(c, name, b)
	return nil
}

// hashOf is what must be equal for two calls of one key to be the same call.
// Without a key nothing is compared, and the log need not carry it.
func hashOf(c *intake.Call, name, body string) string {
	if c.Key == "" {
		return ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%d\x00%s\x00%s\x00%s", c.Function, c.Version, c.Policy, name, body)
	return hex.EncodeToString(h.Sum(nil))
}

func hashOfBytes(c *intake.Call, name string, body []byte) string {
	if c.Key == "" {
		return ""
	}
	sum := sha256.Sum256(body)
	return hashOf(c, name, hex.EncodeToString(sum[:]))
}

// fileName is the name that the caller gave the body.
func fileName(r *http.Request) (string, error) {
	name := "body"
	if v := r.Header.Get("X-File-Name"); v != "" {
		name = v
	} else if v := r.Header.Get("Content-Disposition"); v != "" {
		_, params, err := mime.ParseMediaType(v)
		if err != nil {
			return "", functions.Invalid("bad_header", "Content-Disposition is not valid").
				WithHint(`write attachment; filename="speech.wav"`).WithField("Content-Disposition")
		}
		if params["filename"] != "" {
			name = params["filename"]
		}
	}
	return name, functions.FileName(name)
}

// discard deletes the inputs of a call that certainly made no task.
func (g *Gateway) discard(ctx context.Context, inputs []functions.Input, err error) {
	if err != nil && !intake.Refused(err) {
		return
	}
	if err := g.cfg.Door.Discard(ctx, inputs); err != nil {
		g.log.Warn("input of a refused call stays in the store", "err", err)
	}
}
