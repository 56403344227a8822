package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// Secret signs messages.
type Secret []byte

// secretPrefix begins a secret's text form.
const secretPrefix = "whsec_"

// ParseSecret reads the text form: whsec_ and 24 to 64 bytes in base64, as
// Standard Webhooks says.
func ParseSecret(text string) (Secret, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, secretPrefix))
	if err != nil || !strings.HasPrefix(text, secretPrefix) || len(key) < 24 || len(key) > 64 {
		return nil, functions.Invalid("bad_webhook_secret", "the webhook secret is not %s and 24 to 64 bytes in base64", secretPrefix).
			WithHint("make one with: echo " + secretPrefix + "$(openssl rand -base64 32)")
	}
	return key, nil
}

// Text is the form that ParseSecret reads and receivers are given.
func (s Secret) Text() string { return secretPrefix + base64.StdEncoding.EncodeToString(s) }

// sign adds the three headers of a message.
func (s Secret) sign(h http.Header, id string, at time.Time, body []byte) {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, s)
	fmt.Fprintf(mac, "%s.%s.", id, stamp)
	mac.Write(body)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}
