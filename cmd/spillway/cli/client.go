package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spillway/spillway/functions"
)

// client speaks to one gateway.
type client struct {
	base string
	key  string
	http *http.Client
}

const defaultServer = "http://127.0.0.1:8080"

func newClient(app App, f *flags) (*client, error) {
	base := f.server
	if base == "" {
		base = app.Getenv("SPILLWAY_URL")
	}
	if base == "" {
		base = defaultServer
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: %q is not a URL; try --server http://127.0.0.1:8080", errUsage, base)
	}
	key := f.key
	if key == "" {
		key = app.Getenv("SPILLWAY_API_KEY")
	}
	if file := app.Getenv("SPILLWAY_API_KEY_FILE"); key == "" && file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the API key: %w", err)
		}
		key = strings.TrimSpace(string(b))
	}
	return &client{base: strings.TrimSuffix(base, "/"), key: key, http: &http.Client{}}, nil
}

// call sends one request; v, when not nil, is sent as JSON.
func (c *client) call(ctx context.Context, method, path string, v any) (json.RawMessage, error) {
	var body io.Reader
	header := http.Header{}
	if v != nil {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.do(ctx, method, path, header, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return raw, nil
}

// do sends one request and returns the answer when its status is below 400.
func (c *client) do(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return nil, fmt.Errorf("%w at %s: %w; try: spillway doctor --server %s", errUnreachable, c.base, err, c.base)
		}
		return nil, err
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return nil, problem(resp, raw)
}

// get decodes the answer of a GET into v and returns it raw as well.
func (c *client) get(ctx context.Context, path string, v any) (json.RawMessage, error) {
	raw, err := c.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return raw, decode(raw, v)
}

func decode(raw json.RawMessage, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("decode the gateway's answer: %w", err)
	}
	return nil
}

// statusClass is the gateway's table, backwards.
var statusClass = map[int]error{
	http.StatusBadRequest:            functions.ErrInvalid,
	http.StatusUnprocessableEntity:   functions.ErrInvalid,
	http.StatusUnauthorized:          functions.ErrForbidden,
	http.StatusForbidden:             functions.ErrForbidden,
	http.StatusNotFound:              functions.ErrNotFound,
	http.StatusConflict:              functions.ErrConflict,
	http.StatusRequestEntityTooLarge: functions.ErrTooLarge,
	http.StatusTooManyRequests:       functions.ErrThrottled,
	http.StatusServiceUnavailable:    functions.ErrUnavailable,
	http.StatusGatewayTimeout:        functions.ErrTimeout,
}

// problem turns an error answer back into the error that the gateway had.
func problem(resp *http.Response, raw []byte) error {
	var p struct {
		Code, Detail, Title, Hint, Field string
		RequestID                        string `json:"request_id"`
	}
	_ = json.Unmarshal(raw, &p)
	msg := p.Detail
	if msg == "" {
		msg = p.Title
	}
	if msg == "" {
		msg = resp.Status + " " + strings.TrimSpace(string(raw))
	}
	if resp.Header.Get("Spillway-Function-Error") != "" {
		return fmt.Errorf("%w: %s", errTaskFailed, msg)
	}
	class, ok := statusClass[resp.StatusCode]
	if !ok {
		return fmt.Errorf("the gateway answered %s: %s (request %s)", resp.Status, msg, p.RequestID)
	}
	e := functions.NewError(class, p.Code, "%s", msg)
	e.Hint, e.Field = p.Hint, p.Field
	return e
}

// Explain writes an error the way the command line shows it.
func Explain(w io.Writer, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	fmt.Fprintf(w, "error: %v\n", err)
	var e *functions.Error
	if errors.As(err, &e) && e.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", e.Hint)
	}
}
