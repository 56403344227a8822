package ingest

import (
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

// maxEvent is the largest event that Hook reads; MinIO's are about 1 KiB.
const maxEvent = 1 << 20

// Hook receives the events that MinIO sends to a webhook target. MinIO sends the
// next event of its durable queue only after it has got an answer, and the same
// again after any but 2xx: so everything that a second try cannot help is
// answered with 200, and only what may work later with 503.
type Hook struct {
	offer  func(context.Context, Hint) error
	bearer [sha256.Size]byte // of the header that MinIO sends
	log    *slog.Logger
}

// NewHook returns the receiver. token is the target's auth_token; without one
// every event is refused. MinIO sends one of two words, such as "Basic abc", as
// it stands, and puts Bearer before any other.
func NewHook(in *Ingest, token string) *Hook {
	h := &Hook{offer: in.Offer, log: in.Logger}
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
	hints, err := decode(body)
	if err != nil {
		h.log.Warn("object event not understood", "err", err)
		return
	}
	for _, hint := range hints {
		if err := h.offer(r.Context(), hint); err != nil {
			h.log.Warn("object not taken in", "bucket", hint.Bucket, "key", hint.Key, "err", err)
			if !lasting(err) {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
	}
}

// lasting reports whether the same event would fail again. A full queue counts
// too: listing comes back to the object, and MinIO's queue does not stand still.
func lasting(err error) bool {
	for _, class := range []error{
		functions.ErrInvalid, functions.ErrNotFound, functions.ErrConflict,
		functions.ErrTooLarge, functions.ErrForbidden, functions.ErrThrottled,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}
