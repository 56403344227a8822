package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/spillway/spillway/functions"
)

// HashKey is the form in which the gateway knows an API key.
func HashKey(key string) [sha256.Size]byte { return sha256.Sum256([]byte(key)) }

// authorize checks the caller's key. Every known hash is compared, each in
// constant time, so that the answer's time tells nothing.
func (g *Gateway) authorize(r *http.Request) error {
	if g.cfg.Open {
		// Without keys, any page in a browser on this machine could call us: only a
		// key keeps it from sending requests whose answers it cannot read.
		if err := new(http.CrossOriginProtection).Check(r); err != nil {
			return functions.NewError(functions.ErrForbidden, "cross_origin", "a page of another site cannot call a gateway without keys").
				WithHint("start the server without --no-auth, and send the key").WithCause(err)
		}
		return nil
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := HashKey(strings.TrimSpace(key))
	match := 0
	for _, known := range g.cfg.Keys {
		match |= subtle.ConstantTimeCompare(sum[:], known[:])
	}
	if match == 1 && strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	what := "the API key is not known"
	if r.Header.Get("Authorization") == "" {
		what = "this needs an API key"
	}
	return functions.NewError(functions.ErrForbidden, "unauthorized", "%s", what).
		WithHint("send the header Authorization: Bearer KEY; the server names the file of its key when it starts")
}

// Allowed reports whether a request may call the native API. Mounts that know
// other callers too ask it first.
func (g *Gateway) Allowed(r *http.Request) bool { return g.authorize(r) == nil }
