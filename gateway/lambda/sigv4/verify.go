// Package sigv4 checks requests that are signed with AWS Signature Version 4,
// in the Authorization header, for the service lambda. The rules are those of
// AWS's "Signature Version 4 for API requests"; codes and messages are the ones
// that AWS answers with, because clients tell failures apart by them.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"

	// maxSkew is how far the client's clock and ours may be apart.
	maxSkew = 5 * time.Minute
)

// Keys returns the secret of an access key, and false for a key that nobody has.
type Keys func(accessKeyID string) (secret string, ok bool)

// Identity is who signed a request.
type Identity struct {
	AccessKeyID string
	Region      string // that the client signed for; any is taken
}

// Verifier checks signatures. Use New. It may be used by many goroutines.
type Verifier struct {
	keys    Keys
	now     func() time.Time
	service string
	signer  signingKeys
}

// New returns a verifier for keys, which is asked once for each request.
func New(keys Keys, now func() time.Time) *Verifier {
	return &Verifier{keys: keys, now: now, service: "lambda", signer: signingKeys{known: map[scope][sha256.Size]byte{}}}
}

// Verify tells who signed r. body is the whole body: its hash is part of what is
// signed, so that it has to be read first. The error is always an *Error.
//
// A header that the client left out of its signature, as boto3 does with
// amz-sdk-*, may have been changed on the way.
func (v *Verifier) Verify(r *http.Request, body []byte) (Identity, error) {
	id, err := v.verify(r, body)
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

func (v *Verifier) verify(r *http.Request, body []byte) (Identity, *Error) {
	query, err := readQuery(r.URL)
	if err != nil {
		return Identity{}, err
	}
	auth, err := readAuthorization(r.Header["Authorization"], v.service)
	if err != nil {
		return Identity{}, err
	}
	if len(r.Header["X-Amz-Security-Token"]) > 0 {
		return Identity{}, unrecognized() // nobody here hands out temporary credentials
	}
	secret, ok := v.keys(auth.accessKeyID)
	if !ok {
		return Identity{}, unrecognized()
	}
	at, err := v.checkTime(r.Header["X-Amz-Date"], auth)
	if err != nil {
		return Identity{}, err
	}
	headers, err := canonicalHeaders(r, auth.signedHeaders)
	if err != nil {
		return Identity{}, err
	}
	payload, err := payloadHash(r.Header["X-Amz-Content-Sha256"], body)
	if err != nil {
		return Identity{}, err
	}

	canonical := strings.Join([]string{r.Method, canonicalPath(r.URL), query, headers, auth.signedHeaders, payload}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	toSign := strings.Join([]string{algorithm, at, auth.scope(), hex.EncodeToString(digest[:])}, "\n")

	s := scope{secret: secret, date: auth.date, region: auth.region, service: auth.service}
	key, cached := v.signer.get(s)
	if !cached {
		key = derive(s)
	}
	if !hmac.Equal(sum(key[:], toSign), auth.signature) {
		return Identity{}, invalid("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if !cached { // only now: others would fill it with regions of their own
		v.signer.put(s, key)
	}
	return Identity{AccessKeyID: auth.accessKeyID, Region: auth.region}, nil
}

// checkTime returns the time of signing as it is signed.
func (v *Verifier) checkTime(sent []string, auth authorization) (string, *Error) {
	if len(sent) == 0 {
		return "", incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
	}
	at, err := time.Parse(timeFormat, sent[0])
	if err != nil || len(sent) > 1 || at.Format(timeFormat) != sent[0] { // Parse takes fractions too
		return "", incomplete("Date must be in ISO-8601 'basic format'. Got '%s'.", strings.Join(sent, ", "))
	}
	if date := at.Format(dateFormat); date != auth.date {
		return "", invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", auth.date, date, sent[0])
	}
	now := v.now().UTC()
	if oldest := now.Add(-maxSkew); at.Before(oldest) {
		return "", invalid("Signature expired: %s is now earlier than %s (%s - 5 min.)", sent[0], oldest.Format(timeFormat), now.Format(timeFormat))
	}
	if newest := now.Add(maxSkew); at.After(newest) {
		return "", invalid("Signature not yet current: %s is still later than %s (%s + 5 min.)", sent[0], newest.Format(timeFormat), now.Format(timeFormat))
	}
	return sent[0], nil
}
