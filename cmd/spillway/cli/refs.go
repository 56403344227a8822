package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// place is one input that is somewhere already, as the gateway takes it.
type place struct {
	Name      string `json:"name,omitempty"`
	File      string `json:"file,omitempty"`
	URL       string `json:"url,omitempty"`
	Bucket    string `json:"bucket,omitempty"`
	Key       string `json:"key,omitempty"`
	VersionID string `json:"version_id,omitempty"`
}

// named is a name before a place: NAME=PLACE. A URL holds no = before its scheme.
var named = regexp.MustCompile(`^([^=:/]+)=((?:file|s3|https?):.*)$`)

// placeOf reads the value of --input.
func placeOf(value string) (p place, err error) {
	if m := named.FindStringSubmatch(value); m != nil {
		p.Name, value = m[1], m[2]
	}
	scheme, rest, _ := strings.Cut(value, ":")
	switch scheme {
	case "file":
		if p.File = rest; rest != "" {
			return p, nil
		}
	case "http", "https":
		p.URL = value
		return p, nil
	case "s3":
		rest, query, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?versionId=")
		var found bool
		if p.Bucket, p.Key, found = strings.Cut(rest, "/"); found && p.Bucket != "" && p.Key != "" {
			p.VersionID, err = url.QueryUnescape(query)
			return p, err
		}
	}
	return p, usage("--input %q is not file:SHARE/PATH, http(s)://..., or s3://BUCKET/KEY; put NAME= before it to name it", value)
}

// openTask returns the body of a call on inputs that are somewhere already.
func (o invokeOptions) openTask(app App, fn string) (io.Reader, http.Header, error) {
	event, err := readEvent(app, o.data)
	if err != nil {
		return nil, nil, err
	}
	ask := struct {
		Function string          `json:"function"`
		Device   string          `json:"device,omitempty"`
		Event    json.RawMessage `json:"event,omitempty"`
		Inputs   []place         `json:"inputs"`
	}{Function: functionName(fn), Device: o.device}
	if len(bytes.TrimSpace(event)) > 0 {
		ask.Event = event
	}
	for _, value := range o.inputs {
		p, err := placeOf(value)
		if err != nil {
			return nil, nil, err
		}
		ask.Inputs = append(ask.Inputs, p)
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, nil, fmt.Errorf("encode request: %w", err)
	}
	return bytes.NewReader(body), http.Header{"Content-Type": {"application/json"}}, nil
}
