package gateway

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// submitRequest is a call whose inputs are files that are somewhere already.
type submitRequest struct {
	Function functions.Name   `json:"function"`
	Version  int              `json:"version"`
	Device   functions.Policy `json:"device"`
	Event    json.RawMessage  `json:"event"`
	Params   json.RawMessage  `json:"params"`
	Metadata json.RawMessage  `json:"metadata"`
	Priority int              `json:"priority"`
	Inputs   []inputRequest   `json:"inputs"`
}

// inputRequest says where one input is: a file, a URL, or a bucket with a key.
type inputRequest struct {
	Name        string `json:"name"`
	File        string `json:"file"`
	URL         string `json:"url"`
	Bucket      string `json:"bucket"`
	Key         string `json:"key"`
	VersionID   string `json:"version_id"`
	ContentType string `json:"content_type"`
}

// submit runs a function like invoke does, on files by reference.
func (g *Gateway) submit(w http.ResponseWriter, r *http.Request) error {
	p, err := preferenceOf(r)
	if err != nil {
		return err
	}
	limit := maxSync
	if p.async {
		limit = maxAsync
	}
	body, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	var ask submitRequest
	if err := strictJSON(body, &ask); err != nil {
		return err
	}
	if ask.Version < 0 {
		return functions.Invalid("bad_version", "%d is not a version", ask.Version).WithHint("use a number from 1, or leave it out for the newest").WithField("version")
	}
	call := g.newCall(r)
	call.Function, call.Version, call.Policy = ask.Function, ask.Version, functions.Policy(strings.ToLower(string(ask.Device)))
	call.Event, call.Params, call.Metadata, call.Priority = given(ask.Event), given(ask.Params), given(ask.Metadata), ask.Priority
	if call.Event != nil {
		call.Content = content.JSON()
	}
	for _, in := range ask.Inputs {
		call.Refs = append(call.Refs, intake.Ref(in))
	}
	call.BodyHash = hashOfBytes(&call, "", body)
	return g.carry(w, r, call, p)
}

// given is nil for a field that is null or not there.
func given(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}
