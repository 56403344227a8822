// Package webfetch gets files from URLs that clients name, without letting them
// reach what only this machine can reach.
//
// A URL is checked as text first (url.go): http or https, no user, no number in
// disguise as a host. Then every address that its host stands for is checked at
// the moment of dialling, and the very address that was checked is dialled
// (guard.go), so that a name that changes its mind wins nothing. Redirects go the
// same way. No proxy is asked, nothing is unpacked, and size and time are bounded.
//
// Errors: ErrInvalid for what is no URL of ours, ErrForbidden for an address that
// is refused, ErrNotFound for a server that will not give the file, ErrTooLarge,
// and ErrUnavailable for all that may be better later. They show no query, which
// often holds a secret.
package webfetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// Resolver finds the addresses of a host; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config is what a Client works with. The zero value refuses every address that
// is not public, and takes the limits beside each field.
type Config struct {
	Allow    []string        // CIDR prefixes and hosts that the guard lets through
	MaxSize  functions.Bytes // of one file; 10 GiB
	Idle     time.Duration   // without a byte; 30 s
	Total    time.Duration   // for one file; 2 h
	Slowest  functions.Bytes // per second, after the first minute; 64 KiB
	Probe    time.Duration   // for one probe; 5 s
	Resolver Resolver        // nil means net.DefaultResolver
}

// Client fetches files. It may be used from many goroutines.
type Client struct {
	cfg  Config
	http *http.Client
}

// New returns a Client. It refuses an Allow that is neither prefix nor host.
func New(cfg Config) (*Client, error) {
	cfg.MaxSize = cmp.Or(cfg.MaxSize, 10*functions.GiB)
	cfg.Idle = cmp.Or(cfg.Idle, 30*time.Second)
	cfg.Total = cmp.Or(cfg.Total, 2*time.Hour)
	cfg.Slowest = cmp.Or(cfg.Slowest, 64*functions.KiB)
	cfg.Probe = cmp.Or(cfg.Probe, 5*time.Second)
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	g, err := newGuard(cfg.Allow, cfg.Resolver)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, http: &http.Client{
		CheckRedirect: redirect,
		Transport: &http.Transport{
			DialContext:            g.dial,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
			DisableKeepAlives:      true, // each file is of another server
		},
	}}, nil
}

// maxRedirects is how often a server may send us elsewhere.
const maxRedirects = 5

// redirect checks where a server sends us. The address itself is checked when it
// is dialled.
func redirect(req *http.Request, via []*http.Request) error {
	req.Header.Del("Referer") // it would tell the next server a URL that is a secret
	if len(via) > maxRedirects {
		return functions.NotFound("url_redirects", "the server redirects more than %d times", maxRedirects)
	}
	return check(req.URL)
}

// Probe asks, within seconds, for the first most bytes of a file, and for its type
// and size: functions.UnknownSize when the server does not say.
func (c *Client) Probe(ctx context.Context, rawURL string, most int64) (found functions.ObjectRef, head []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Probe, functions.ErrTimeout)
	defer cancel()
	resp, err := c.get(ctx, rawURL, fmt.Sprintf("bytes=0-%d", most-1))
	if err != nil {
		return found, nil, err
	}
	defer resp.Body.Close()
	found.Size = resp.ContentLength
	if resp.StatusCode != http.StatusOK {
		found.Size = rangeTotal(resp.Header.Get("Content-Range"))
	}
	switch {
	case found.Size > int64(c.cfg.MaxSize):
		return found, nil, c.over(resp.Request.URL, int64(c.cfg.MaxSize))
	case resp.StatusCode != http.StatusRequestedRangeNotSatisfiable: // whose body is about the error
		found.ContentType = resp.Header.Get("Content-Type")
		if head, err = io.ReadAll(io.LimitReader(resp.Body, most)); err != nil {
			return found, nil, broken(ctx, resp.Request.URL, err)
		}
	case found.Size == 0: // a file without bytes has none to give
		head = []byte{}
	default:
		found.Size = functions.UnknownSize
	}
	return found, head, nil
}

// rangeTotal reads the file's size in bytes 0-9/SIZE.
func rangeTotal(contentRange string) int64 {
	_, total, _ := strings.Cut(contentRange, "/")
	if n, err := strconv.ParseInt(total, 10, 64); err == nil && n >= 0 {
		return n
	}
	return functions.UnknownSize
}

// Fetch writes the file to w and returns its SHA-256 in hex and its size. It
// takes at most room bytes (ErrUnavailable: there is no more) and the client's
// own limit (ErrTooLarge).
func (c *Client) Fetch(ctx context.Context, rawURL string, w io.Writer, room int64) (sum string, size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.get(ctx, rawURL, "")
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	most := max(0, min(room, int64(c.cfg.MaxSize)))
	if resp.ContentLength > most {
		return "", 0, c.over(resp.Request.URL, most)
	}
	h := sha256.New()
	body := newPaced(resp.Body, c.cfg, cancel)
	defer body.stop()
	size, err = io.Copy(io.MultiWriter(w, h), io.LimitReader(body, most+1))
	switch {
	case body.err != nil:
		return "", 0, broken(ctx, resp.Request.URL, body.err)
	case err != nil: // w's
		return "", 0, fmt.Errorf("write %s: %w", Show(rawURL), err)
	case size > most:
		return "", 0, c.over(resp.Request.URL, most)
	case resp.ContentLength >= 0 && size != resp.ContentLength:
		return "", 0, broken(ctx, resp.Request.URL, io.ErrUnexpectedEOF)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// get sends one request and returns an answer of class 2xx, or 416.
func (c *Client) get(ctx context.Context, rawURL, span string) (*http.Response, error) {
	u, err := Parse(rawURL)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, badURL(rawURL, "it cannot be sent")
	}
	req.Header.Set("User-Agent", "spillway")
	req.Header.Set("Accept-Encoding", "identity")
	if span != "" {
		req.Header.Set("Range", span)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, broken(ctx, u, err)
	}
	switch code := resp.StatusCode; {
	case code == http.StatusOK, span != "" && (code == http.StatusPartialContent || code == http.StatusRequestedRangeNotSatisfiable):
		return resp, nil
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		err = functions.Unavailable("url_status", "%s answered %d", Show(rawURL), code)
	default:
		err = functions.NotFound("url_status", "%s answered %d", Show(rawURL), code).WithHint("the URL must give the file to anybody who asks with GET")
	}
	resp.Body.Close()
	return nil, err
}

// broken gives an error of the network its class.
func broken(ctx context.Context, u *url.URL, err error) error {
	var known *functions.Error
	if errors.As(err, &known) { // the guard's
		return known
	}
	var sent *url.Error
	if errors.As(err, &sent) { // its text repeats the whole URL
		err = sent.Err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return functions.Unavailable("url_unreachable", "%s cannot be read", Show(u.String())).WithCause(err)
}

// over is the error of a file that is larger than most, which is the client's
// limit or the room that there was.
func (c *Client) over(u *url.URL, most int64) error {
	if most < int64(c.cfg.MaxSize) {
		return functions.Unavailable("no_room", "%s is over the %s that there is room for", Show(u.String()), functions.Bytes(most))
	}
	return functions.NewError(functions.ErrTooLarge, "url_too_large", "%s is over %s", Show(u.String()), c.cfg.MaxSize).
		WithHint("an operator can raise --url-max").WithField("url")
}
