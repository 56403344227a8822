package gateway

import (
	"encoding/base64"
	"net/http"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// explain says which device a call would try first and why, without making one.
func (g *Gateway) explain(w http.ResponseWriter, r *http.Request) error {
	var ask struct {
		Function    functions.Name   `json:"function"`
		Version     int              `json:"version"`
		FileName    string           `json:"file_name"`
		ContentType string           `json:"content_type"`
		Head        *string          `json:"head_base64"` // the file's first bytes; 3072 are enough
		Device      functions.Policy `json:"device"`
	}
	if err := decodeJSON(w, r, &ask); err != nil {
		return err
	}
	if ask.FileName != "" {
		if err := functions.FileName(ask.FileName); err != nil {
			return err
		}
	}
	var head []byte
	if ask.Head != nil {
		var err error
		if head, err = base64.StdEncoding.DecodeString(*ask.Head); err != nil {
			return functions.Invalid("bad_base64", "head_base64 is not base64").WithHint("encode the file's first 3072 bytes").WithField("head_base64")
		}
		if head == nil {
			head = []byte{}
		}
	}
	var what content.Type
	if ask.FileName != "" || ask.ContentType != "" || head != nil {
		what = content.Detect(head, ask.FileName, ask.ContentType)
	}
	route, err := g.cfg.Door.Explain(intake.Call{Function: ask.Function, Version: ask.Version, Policy: ask.Device, Content: what})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, route)
}
