package webfetch

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"
)

// most of an answer that Post reads, so that the connection ends in order.
const mostAnswer = 64 << 10

// Post sends a small body to a URL, behind the same guard as a fetch, and returns
// the answer's status, and how long it asks to be left alone. A redirect is an
// answer like any other: what is signed for one address is for no other.
func (c *Client) Post(ctx context.Context, rawURL string, header http.Header, body []byte) (status int, pause time.Duration, err error) {
	u, err := Parse(rawURL)
	if err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, 0, badURL(rawURL, "it cannot be sent")
	}
	if header != nil {
		req.Header = header.Clone()
	}
	req.Header.Set("User-Agent", "spillway")
	once := http.Client{Transport: c.http.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := once.Do(req)
	if err != nil {
		return 0, 0, broken(ctx, u, err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, mostAnswer)
	return resp.StatusCode, retryAfter(resp.Header.Get("Retry-After")), nil
}

// retryAfter reads seconds or a date; 0 when it is neither.
func retryAfter(text string) time.Duration {
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return time.Duration(min(n, 24*3600)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), 24*time.Hour)
	}
	return 0
}

// Check refuses, as ErrInvalid, what Post would refuse for its text alone.
func (c *Client) Check(rawURL string) error {
	_, err := Parse(rawURL)
	return err
}
