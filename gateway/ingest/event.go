package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spillway/spillway/functions"
)

// eventOf writes the event that AWS would send for the object. It is what a
// function gets, whoever reported the object: from what the store says now, and
// without what MinIO adds, which names internal addresses and access keys.
func eventOf(ref functions.ObjectRef, region string, at time.Time) (json.RawMessage, error) {
	name := "ObjectCreated:Put"
	if strings.Contains(ref.ETag, "-") { // an MD5 of MD5s, with the number of parts
		name = "ObjectCreated:CompleteMultipartUpload"
	}
	type object struct {
		Key       string `json:"key"`
		Size      int64  `json:"size"`
		ETag      string `json:"eTag"`
		VersionID string `json:"versionId,omitempty"`
	}
	principal := map[string]string{"principalId": "spillway"}
	event := map[string]any{"Records": []any{map[string]any{
		"eventVersion":      "2.1",
		"eventSource":       "aws:s3",
		"awsRegion":         region,
		"eventTime":         at.UTC().Format("2006-01-02T15:04:05.000Z"),
		"eventName":         name,
		"userIdentity":      principal,
		"requestParameters": map[string]string{"sourceIPAddress": "127.0.0.1"},
		"responseElements":  map[string]string{},
		"s3": map[string]any{
			"s3SchemaVersion": "1.0",
			"configurationId": "spillway",
			"bucket": map[string]any{
				"name": ref.Bucket, "ownerIdentity": principal, "arn": "arn:aws:s3:::" + ref.Bucket,
			},
			"object": object{formKey(ref.Key), ref.Size, ref.ETag, ref.VersionID},
		},
	}}}
	raw, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("write event of %s/%s: %w", ref.Bucket, ref.Key, err)
	}
	return raw, nil
}

// formKey encodes a key as AWS does in events: like a form, slashes kept.
func formKey(key string) string {
	return strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
}

// message is any body that reports objects. Which of its fields are there tells
// who sent it: Records MinIO or AWS, Message an SNS topic with either inside,
// detail EventBridge.
type message struct {
	Records []record `json:"Records"`
	Message string   `json:"Message"`

	DetailType string `json:"detail-type"`
	Detail     struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			VersionID string `json:"version-id"`
			ETag      string `json:"etag"`
			Size      int64  `json:"size"`
		} `json:"object"`
	} `json:"detail"`
}

type record struct {
	EventName string `json:"eventName"`
	S3        struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			VersionID string `json:"versionId"`
			ETag      string `json:"eTag"`
			Size      int64  `json:"size"`
		} `json:"object"`
	} `json:"s3"`
}

// decode reads the new objects that a message reports, each once. A message about
// anything else has none, and so has an empty one.
func decode(body []byte) ([]Hint, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, notUnderstood(err)
	}
	if len(m.Records) == 0 && m.Message != "" {
		inner := m.Message
		m = message{}
		if err := json.Unmarshal([]byte(inner), &m); err != nil {
			return nil, notUnderstood(err)
		}
	}
	var hints []Hint
	seen := make(map[Hint]bool)
	add := func(h Hint) {
		if h.Bucket != "" && h.Key != "" && utf8.ValidString(h.Key) && !seen[h] { // every key is UTF-8: another names no object
			seen[h] = true
			hints = append(hints, h)
		}
	}
	if m.DetailType == "Object Created" {
		o := m.Detail.Object
		add(Hint{Bucket: m.Detail.Bucket.Name, Key: o.Key, VersionID: o.VersionID, ETag: o.ETag, Size: o.Size}) // not encoded here
	}
	for _, r := range m.Records {
		if !strings.HasPrefix(strings.TrimPrefix(r.EventName, "s3:"), "ObjectCreated:") {
			continue
		}
		key, err := url.QueryUnescape(r.S3.Object.Key)
		if err == nil {
			o := r.S3.Object
			add(Hint{Bucket: r.S3.Bucket.Name, Key: key, VersionID: o.VersionID, ETag: o.ETag, Size: o.Size})
		}
	}
	return hints, nil
}

func notUnderstood(err error) error {
	return functions.Invalid("bad_event", "the event is not one that MinIO or AWS sends").WithCause(err)
}
