package cli

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/functions"
)

// store is the client's side of the object store: signed requests, no key.
type store struct {
	http     *http.Client
	answered atomic.Bool // once is enough to know that it can be reached
}

func newStore(parallel int) *store {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = parallel
	return &store{http: &http.Client{Transport: tr}}
}

// piece is a section of the file that one request carries.
type piece struct {
	what        string // for people
	off, length int64
	hashed      bool // the signed request names its SHA-256
}

const (
	pieceTries = 8               // of one piece at a store that has answered before
	firstTries = 3               // at one that never did: most likely its address is wrong
	stallLimit = 2 * time.Minute // without a byte sent or an answer
	expectFrom = int64(functions.MiB)
)

// pause is how long to wait before try n, counted from 2: half a second,
// doubling up to 15 s, each a little different so that parts do not come at once.
func pause(n int) time.Duration {
	d := min(500*time.Millisecond<<min(n-2, 10), 15*time.Second)
	return d/2 + rand.N(d/2)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// patiently repeats a call to a gateway that has answered before: it may be
// restarting. What it does answer, other than to come later, ends that.
func patiently(ctx context.Context, call func() error) error {
	for try := 1; ; try++ {
		err := call()
		later := errors.Is(err, errUnreachable) || errors.Is(err, functions.ErrUnavailable) || errors.Is(err, functions.ErrThrottled)
		if err == nil || !later || try == pieceTries {
			return err
		}
		if serr := sleep(ctx, pause(try+1)); serr != nil {
			return serr
		}
	}
}

// sendPiece sends a piece until the store has it. Every try is hashed and signed
// anew: the last signature may have expired.
func (u *uploader) sendPiece(ctx context.Context, p piece, sign func(sum string) (functions.PresignedRequest, error)) error {
	for try := 1; ; try++ {
		var sum string
		var err error
		if p.hashed {
			if sum, err = u.hash(p.off, p.length); err != nil {
				return err
			}
		}
		to, err := sign(sum)
		if err != nil {
			return err
		}
		body := u.bar.reader(io.NewSectionReader(u.file, p.off, p.length))
		if err = u.store.put(ctx, to, body, p.length); err == nil {
			return nil
		}
		body.takeBack()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		tries := triesFor(err)
		if !u.store.answered.Load() {
			tries = firstTries
		}
		if try >= tries {
			return err
		}
		wait := pause(try + 1)
		u.say("%s did not arrive: %v; trying again in %s", p.what, err, wait.Round(100*time.Millisecond))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// refusal is an answer of the store that is no success.
type refusal struct {
	status  int
	code    string // S3's word; empty when the answer is no S3 error
	message string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the store answered %s: %s", strings.TrimSpace(strconv.Itoa(r.status)+" "+r.code), r.message)
}

// triesFor says how often a piece is sent in all when a try failed with err: not
// again where the store will say the same, twice more where a fresh signature or
// another reading may help, and long where the store or the way to it is down.
func triesFor(err error) int {
	var r *refusal
	if !errors.As(err, &r) {
		return pieceTries
	}
	switch {
	case r.status == http.StatusInsufficientStorage:
		return 1
	case r.status >= 500, r.status == http.StatusTooManyRequests, r.status == http.StatusRequestTimeout:
		return pieceTries
	case r.status == http.StatusForbidden, r.status == http.StatusBadRequest:
		return 3
	}
	return 1
}

const clockHint = "the signature is over or not valid yet: compare the clocks of the gateway and the store, and see whether a piece takes longer than its signature holds"

// explain gives a refusal its class and says what to do next.
func (r *refusal) explain() error {
	says := func(class error, hint string) error {
		return functions.NewError(class, "store_refused", "the store refused it").WithCause(r).WithHint("%s", hint)
	}
	switch {
	case r.status == http.StatusInsufficientStorage || r.code == "XMinioStorageFull":
		return says(functions.ErrUnavailable, "the store's disk is full: free some space there, and run the command again")
	case r.code == "SignatureDoesNotMatch":
		return says(functions.ErrForbidden, "the store saw another request than the gateway signed: a proxy changes it, or --store-public is not the address that the store knows itself by")
	case r.status == http.StatusForbidden:
		return says(functions.ErrForbidden, clockHint)
	case r.status == http.StatusBadRequest:
		return says(functions.ErrInvalid, "the store got other bytes than were hashed: the file changed meanwhile, or something on the way damages what is sent")
	case r.status == http.StatusNotFound:
		return says(functions.ErrConflict, "the upload is no longer awaited there: run the command again")
	case r.status == http.StatusRequestEntityTooLarge:
		return says(functions.ErrTooLarge, "the store or a proxy before it takes no request of this size")
	}
	return r
}

// put sends one signed request. Only the store's success is one; an object that
// is there already counts, since a signature is for just this file.
func (s *store) put(ctx context.Context, to functions.PresignedRequest, body io.Reader, size int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallLimit, func() { cancel(fmt.Errorf("nothing moved for %s", stallLimit)) })
	defer stalled.Stop()
	var content io.Reader = http.NoBody
	if size > 0 {
		content = &watched{body, stalled}
	}
	req, err := http.NewRequestWithContext(ctx, to.Method, to.URL, content)
	if err != nil {
		return fmt.Errorf("the gateway signed a request that cannot be sent: %w", err)
	}
	req.ContentLength = size
	for k, v := range to.Headers {
		req.Header.Set(k, v)
	}
	if size >= expectFrom {
		req.Header.Set("Expect", "100-continue") // a refusal must not be lost in a piece that is still being sent
	}
	resp, err := s.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return unreachable(context.WithoutCancel(ctx), "the object store", origin(to.URL), err).
			WithHint("clients must reach the store too: set the server's --store-public to an address that this machine can open")
	}
	defer resp.Body.Close()
	s.answered.Store(true)
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // of an error answer, what came is enough
	if resp.StatusCode < 300 {
		return nil
	}
	if resp.StatusCode == http.StatusPreconditionFailed && to.Headers["If-None-Match"] == "*" {
		return nil
	}
	var x struct{ Code, Message string }
	if xml.Unmarshal(b, &x) != nil || x.Code == "" { // a proxy's page
		x.Message = clip(string(bytes.TrimSpace(b)), 200)
	}
	return (&refusal{resp.StatusCode, x.Code, x.Message}).explain()
}

// watched puts off the stall limit with every read.
type watched struct {
	io.Reader
	stalled *time.Timer
}

func (w *watched) Read(b []byte) (int, error) {
	w.stalled.Reset(stallLimit)
	return w.Reader.Read(b)
}

// origin is the part of a signed URL that may be shown.
func origin(signed string) string {
	u, err := url.Parse(signed)
	if err != nil {
		return "an address that cannot be read"
	}
	return u.Scheme + "://" + u.Host
}
