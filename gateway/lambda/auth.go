package lambda

import (
	"cmp"
	"errors"
	"net/http"
)

// defaultRegion is the region of callers that do not sign for one.
const defaultRegion = "us-east-1"

// Refusal is why a signature is not taken: one of AWS's codes, its text, and the
// status; 0 means 403.
type Refusal struct {
	Code, Message string
	Status        int
}

func (e *Refusal) Error() string { return e.Code + ": " + e.Message }

// identify learns who sent a request: by a key of the native API, else by AWS's
// signature.
func (a *API) identify(q *request) *apiError {
	q.region = defaultRegion
	if a.cfg.Trust(q.Request) {
		return nil
	}
	key, region, err := a.cfg.Verify(q.Request, q.body)
	if err == nil {
		q.accessKey, q.region = key, region
		return nil
	}
	var refused *Refusal
	if !errors.As(err, &refused) {
		return problemOf(err)
	}
	e := problem(refused.Code, "%s", refused.Message)
	e.status = cmp.Or(refused.Status, http.StatusForbidden)
	return e
}
