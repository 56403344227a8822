package serve

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/spillway/spillway/functions"
)

// Source is the object that caused an event, as CloudEvents name it.
type Source struct {
	Type    string // com.amazonaws.s3.ObjectCreated:Put
	Source  string // aws:s3.REGION.BUCKET
	Subject string // the object's key
	Time    string // RFC 3339
}

// SourceOf reads the first record of an S3 event; nil when event is none.
func SourceOf(event []byte) *Source {
	var e struct {
		Records []struct {
			EventSource string `json:"eventSource"`
			EventName   string `json:"eventName"`
			EventTime   string `json:"eventTime"`
			AwsRegion   string `json:"awsRegion"`
			S3          struct {
				Bucket struct {
					Name string `json:"name"`
				} `json:"bucket"`
				Object struct {
					Key string `json:"key"`
				} `json:"object"`
			} `json:"s3"`
		}
	}
	if json.Unmarshal(event, &e) != nil || len(e.Records) == 0 || e.Records[0].EventSource != "aws:s3" {
		return nil
	}
	r := e.Records[0]
	key, err := url.QueryUnescape(r.S3.Object.Key)
	if err != nil {
		key = r.S3.Object.Key
	}
	return &Source{
		Type:    "com.amazonaws.s3." + r.EventName,
		Source:  strings.Join([]string{"aws:s3", r.AwsRegion, r.S3.Bucket.Name}, "."),
		Subject: key,
		Time:    r.EventTime,
	}
}

// mark adds CloudEvents' binary headers.
func (s *Source) mark(h http.Header, id functions.TaskID) {
	if s == nil {
		return
	}
	h.Set("ce-specversion", "1.0")
	h.Set("ce-id", string(id))
	h.Set("ce-type", attribute(s.Type))
	h.Set("ce-source", attribute(s.Source))
	h.Set("ce-subject", attribute(s.Subject))
	if s.Time != "" {
		h.Set("ce-time", attribute(s.Time))
	}
}

// attribute writes a value as CloudEvents' HTTP binding wants it in a header:
// what is not printable ASCII, and space, quote and percent, in percent form.
func attribute(value string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		if c > ' ' && c < 0x7f && c != '"' && c != '%' {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}
