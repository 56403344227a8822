package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// maxAnswer bounds what is read into memory: a page of 1000 tasks with 32
// attempts each stays below it.
const maxAnswer = 64 << 20

const defaultServer = "http://127.0.0.1:8080"

func newClient(app App, f *flags) (*client, error) {
	base := cmp.Or(f.server, app.Getenv("SPILLWAY_URL"), defaultServer)
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usage("%q is not a gateway's URL; try --server %s", base, defaultServer)
	}
	key := cmp.Or(f.key, app.Getenv("SPILLWAY_API_KEY"))
	if file := app.Getenv("SPILLWAY_API_KEY_FILE"); key == "" && file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the API key: %w", err)
		}
		key = strings.TrimSpace(string(b))
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, usage("the API key holds characters that no key has")
	}
	return &client{base: strings.TrimSuffix(base, "/"), key: key, http: &http.Client{CheckRedirect: keepKey}}, nil
}

// keepKey keeps the API key from the object store, where large results are
// redirected to: a signed request that carries a key as well is refused there,
// and the standard client takes another port for the same host.
func keepKey(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("too many redirects")
	}
	if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		req.Header.Del("Authorization")
	}
	return nil
}

// call sends one request; v, when not nil, is sent as JSON.
func (c *client) call(ctx context.Context, method, path string, v any) (json.RawMessage, error) {
	if v == nil {
		return c.send(ctx, method, path, "", nil)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return c.send(ctx, method, path, "application/json", b)
}

// send sends one request and returns the answer, which is small.
func (c *client) send(ctx context.Context, method, path, contentType string, body []byte) (json.RawMessage, error) {
	header := http.Header{}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	resp, err := c.do(ctx, method, path, header, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return raw, nil
}

// do sends one request and returns the answer when its status is below 400.
func (c *client) do(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, usage("%w", err)
	}
	if b, ok := body.(sized); ok {
		if req.ContentLength = b.size; b.size == 0 {
			req.Body = http.NoBody
		}
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Spillway-Source", "cli")
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(ctx, "the gateway", c.base, err).WithHint("start one with spillway up, or name another with --server or SPILLWAY_URL")
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // of an error answer, what came is enough
	return nil, problem(resp, raw)
}

// unreachable is the error of a request without an answer. One that the caller
// ended has the caller's reason as its class.
func unreachable(ctx context.Context, what, where string, err error) *functions.Error {
	var sent *url.Error
	if errors.As(err, &sent) { // its text repeats the whole URL, signature and all
		err = sent.Err
	}
	class := errUnreachable
	if ctx.Err() != nil {
		class = context.Cause(ctx)
	}
	return functions.NewError(class, "unreachable", "%s at %s cannot be reached", what, where).WithCause(err)
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
