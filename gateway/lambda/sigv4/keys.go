package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"sync"
)

// maxSigningKeys bounds what is kept: one a day for each key and region in use.
const maxSigningKeys = 256

// scope is what a signing key is made from. The secret stands for the access
// key, so that a new secret gets a new signing key at once.
type scope struct{ secret, date, region, service string }

// derive makes the key that signs in a scope.
func derive(s scope) [sha256.Size]byte {
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{s.date, s.region, s.service, terminator} {
		key = sum(key, part)
	}
	return [sha256.Size]byte(key)
}

func sum(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

// signingKeys remembers signing keys: deriving one costs more than a signature.
type signingKeys struct {
	mu    sync.RWMutex
	known map[scope][sha256.Size]byte
}

func (k *signingKeys) get(s scope) ([sha256.Size]byte, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	key, ok := k.known[s]
	return key, ok
}

func (k *signingKeys) put(s scope, key [sha256.Size]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= maxSigningKeys { // days go by; what is in use comes back
		clear(k.known)
	}
	k.known[s] = key
}
