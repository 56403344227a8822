package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/spillway/spillway/functions"
)

// Message offers the objects that a message of MinIO or AWS reports, bare or
// wrapped by SNS or EventBridge. All are tried; an error of one that may work
// later goes before one that would fail again. A message that nobody could
// understand is ErrInvalid.
func (in *Ingest) Message(ctx context.Context, from Source, body []byte) error {
	hints, err := decode(body)
	if err != nil {
		in.figures.failed(from, err)
		return err
	}
	var last, later error
	for _, h := range hints {
		h.Source = from
		if err := in.Offer(ctx, h); permanent(err) {
			last = err
		} else if err != nil {
			later = err
		}
	}
	return cmp.Or(later, last)
}

// Trouble records what keeps a source from being heard at all.
func (in *Ingest) Trouble(from Source, err error) { in.figures.failed(from, err) }

// maxEvent is the largest event that Hook reads; MinIO's are about 1 KiB.
const maxEvent = 1 << 20

// Hook receives the events that MinIO sends to a webhook target. MinIO sends the
// next event of its durable queue only after it has got an answer, and the same
// again after any but 2xx: so everything that a second try cannot help is
// answered with 200, and only what may work later with 503. A target without a
// queue never sends anything again, and only a few reports at once: it is
// answered before anything is done.
type Hook struct {
	take   func(context.Context, []byte) error
	bearer [sha256.Size]byte // of the header that MinIO sends
	log    *slog.Logger
}

// NewHook returns the receiver for one target, which from names in figures.
// token is the target's auth_token; without one every event is refused. MinIO
// sends one of two words, such as "Basic abc", as it stands, and puts Bearer
// before any other.
func NewHook(in *Ingest, from Source, token string) *Hook {
	h := &Hook{log: in.Logger, take: func(ctx context.Context, body []byte) error { return in.Message(ctx, from, body) }}
	if from == WebhookFast {
		h.take = func(_ context.Context, body []byte) error { return in.Later(from, body) }
	}
	switch len(strings.Fields(token)) {
	case 0:
	case 2:
		h.bearer = sha256.Sum256([]byte(token))
	default:
		h.bearer = sha256.Sum256([]byte("Bearer " + token))
	}
	return h
}

func (h *Hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := sha256.Sum256([]byte(r.Header.Get("Authorization"))) // equal lengths, for the comparison's sake
	if subtle.ConstantTimeCompare(got[:], h.bearer[:]) != 1 {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		w.WriteHeader(http.StatusServiceUnavailable) // the connection broke; it will be sent again
		return
	}
	if err := h.take(r.Context(), body); err != nil {
		if !errors.Is(err, errBacklogFull) { // Later has logged it, once
			h.log.Warn("object event not taken in", "err", err)
		}
		if !lasting(err) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
}

// permanent reports whether the same would fail again, for ever.
func permanent(err error) bool {
	for _, class := range []error{
		functions.ErrInvalid, functions.ErrNotFound, functions.ErrConflict, functions.ErrTooLarge, functions.ErrForbidden,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// lasting reports whether a sender need not repeat itself. A full queue counts
// too: listing comes back to the object, and MinIO's queue does not stand still.
func lasting(err error) bool { return permanent(err) || errors.Is(err, functions.ErrThrottled) }
