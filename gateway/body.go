package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// Limits of request bodies. The first two are AWS Lambda's, so that what works
// here works there: 6 MB for a call that waits, 1 MB for one that does not.
const (
	maxSync  = 6 * functions.MiB
	maxAsync = 1 * functions.MiB
	maxSmall = 1 * functions.MiB // specs, uploads' descriptions and the like
)

// readBody reads a body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit functions.Bytes) ([]byte, error) {
	body, err := limited(w, r, limit)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(body)
	return b, broken(err)
}

// limited refuses a body that says it is over limit, and cuts one that is.
func limited(w http.ResponseWriter, r *http.Request, limit functions.Bytes) (io.Reader, error) {
	if r.ContentLength > int64(limit) {
		w.Header().Set("Connection", "close") // or net/http would read the rest
		return nil, tooLarge(limit)
	}
	return http.MaxBytesReader(w, r.Body, int64(limit)), nil
}

// broken gives an error of a body that ended too early its class.
func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return functions.Invalid("broken_body", "the body ended before its announced length").WithCause(err)
	}
	return err
}

// decodeJSON reads one JSON value into v. Unknown keys are errors: a misspelled
// option must not be ignored. An empty body leaves v as it is.
func decodeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := readBody(w, r, maxSmall)
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return err
	}
	return strictJSON(b, v)
}

func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		return functions.Invalid("bad_json", "the body holds more than one JSON value").WithHint("send one")
	}
	var known *functions.Error
	if errors.As(err, &known) {
		return err
	}
	e := functions.Invalid("bad_json", "the body is not the JSON that is expected here: %.300s", err.Error()).WithHint("see /openapi.json")
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		e = e.WithField(wrong.Field)
	}
	return e
}

// writeJSON answers v.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	return err
}

// maxWait is the longest that a request waits for a task: proxies cut quiet
// connections after about a minute.
const maxWait = 60 * time.Second

// seconds reads a wait: a number of seconds or a Go duration. More than maxWait
// means maxWait.
func seconds(field, s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	d, err := time.ParseDuration(s)
	if n, numErr := strconv.ParseInt(s, 10, 64); numErr == nil {
		d, err = time.Duration(min(n, int64(maxWait/time.Second)))*time.Second, nil
		if n < 0 {
			d = -1
		}
	}
	if err != nil || d < 0 {
		return 0, functions.Invalid("bad_wait", "%.40q is not a time to wait", s).WithHint("write seconds or a duration, such as 30 or 30s").WithField(field)
	}
	return min(d, maxWait), nil
}

// preference is what a caller said about waiting (RFC 7240).
type preference struct {
	async   bool
	wait    time.Duration
	applied string // for Preference-Applied
}

// preferenceOf reads Prefer and ?wait=; the query goes first.
func preferenceOf(r *http.Request) (p preference, err error) {
	p.wait = maxWait
	for _, line := range r.Header.Values("Prefer") {
		for word := range strings.SplitSeq(line, ",") {
			word, _, _ = strings.Cut(word, ";")
			key, value, _ := strings.Cut(strings.TrimSpace(word), "=")
			switch strings.ToLower(strings.TrimSpace(key)) {
			case "respond-async":
				p.async, p.applied = true, "respond-async"
			case "wait":
				if p.wait, err = seconds("Prefer", strings.Trim(value, ` "`)); err != nil {
					return p, err
				}
				if !p.async {
					p.applied = "wait=" + strconv.Itoa(int(p.wait.Seconds()))
				}
			}
		}
	}
	if q := r.URL.Query(); q.Has("wait") {
		p.wait, err = seconds("wait", q.Get("wait"))
	}
	return p, err
}
