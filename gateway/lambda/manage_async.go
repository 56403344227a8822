package lambda

import (
	"net/http"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// asyncConfiguration is how Lambda shows what becomes of asynchronous calls.
type asyncConfiguration struct {
	FunctionArn              string
	LastModified             float64 // seconds since 1970
	MaximumRetryAttempts     *int    `json:",omitempty"`
	MaximumEventAgeInSeconds int     `json:",omitempty"`
	DestinationConfig        destinations
}

type destinations struct{ OnSuccess, OnFailure *destination }

type destination struct {
	Destination string `json:",omitempty"`
}

// asyncBody is what may be said of asynchronous calls.
type asyncBody struct {
	FunctionName             string // it is in the path
	MaximumRetryAttempts     *int
	MaximumEventAgeInSeconds *int
	DestinationConfig        *destinations
}

func showAsync(q *request, h resolved) asyncConfiguration {
	c := h.settings.Async
	return asyncConfiguration{
		FunctionArn: ARN(q.region, h.Name, latest), LastModified: float64(c.LastModified.UnixMilli()) / 1000,
		MaximumRetryAttempts: c.MaximumRetryAttempts, MaximumEventAgeInSeconds: int(c.MaximumEventAge.Std() / time.Second),
		DestinationConfig: destinations{&destination{c.OnSuccess}, &destination{c.OnFailure}},
	}
}

func noAsync(q *request, name functions.Name) *apiError {
	return problem(codeNotFound, "The function %s doesn't have an EventInvokeConfig", ARN(q.region, name, latest))
}

// putAsync replaces the configuration.
func (a *API) putAsync(w http.ResponseWriter, q *request) *apiError {
	return a.setAsync(w, q, func(functions.AsyncConfig) (functions.AsyncConfig, bool) { return functions.AsyncConfig{}, true })
}

// updateAsync changes what the body says of it.
func (a *API) updateAsync(w http.ResponseWriter, q *request) *apiError {
	return a.setAsync(w, q, func(was functions.AsyncConfig) (functions.AsyncConfig, bool) { return was, !was.LastModified.IsZero() })
}

// setAsync writes the body over what from makes of the configuration so far;
// false means that there is none to change.
func (a *API) setAsync(w http.ResponseWriter, q *request, from func(was functions.AsyncConfig) (functions.AsyncConfig, bool)) *apiError {
	var c asyncBody
	name, e := q.whole()
	if e := firstOf(e, q.decode(&c, nil), within(c.MaximumRetryAttempts, "maximumRetryAttempts", 0, 2),
		within(c.MaximumEventAgeInSeconds, "maximumEventAgeInSeconds", 60, 21600)); e != nil {
		return e
	}
	if c.MaximumRetryAttempts == nil && c.MaximumEventAgeInSeconds == nil && c.DestinationConfig == nil {
		return problem(codeInvalidParameter, "You must specify at least one of error handling or destination setting.")
	}
	h, e := a.change(q, name, "", false, func(_ *functions.Spec, l *functions.LambdaSettings) *apiError {
		now, ok := from(l.Async)
		if !ok {
			return noAsync(q, name)
		}
		if e := a.applyAsync(c, &now); e != nil {
			return e
		}
		now.LastModified = a.cfg.Now().UTC()
		l.Async = now
		return nil
	})
	if e != nil {
		return e
	}
	answer(w, http.StatusOK, showAsync(q, h))
	return nil
}

func (a *API) applyAsync(c asyncBody, to *functions.AsyncConfig) *apiError {
	if n := c.MaximumRetryAttempts; n != nil {
		to.MaximumRetryAttempts = n
	}
	if n := c.MaximumEventAgeInSeconds; n != nil {
		to.MaximumEventAge = functions.Duration(time.Duration(*n) * time.Second)
	}
	if d := c.DestinationConfig; d != nil {
		return firstOf(a.lead(&to.OnSuccess, d.OnSuccess), a.lead(&to.OnFailure, d.OnFailure))
	}
	return nil
}

// lead sets a destination that the body names.
func (a *API) lead(to *string, want *destination) *apiError {
	if want == nil {
		return nil
	}
	*to = want.Destination
	return a.reachable(want.Destination)
}

// reachable refuses a destination that nothing could be sent to. An empty one
// takes the destination away.
func (a *API) reachable(arn string) *apiError {
	wrong := func(why string) *apiError {
		return problem(codeInvalidParameter, "The provided destination config is invalid: %.200s %s", arn, why)
	}
	if arn == "" {
		return nil
	}
	if bucket, ok := strings.CutPrefix(arn, "arn:aws:s3:::"); ok {
		if err := functions.BucketName(bucket); err != nil {
			return wrong("names no bucket that there can be")
		}
		return nil
	}
	if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":lambda:") {
		return wrong("is neither the ARN of a function nor arn:aws:s3:::BUCKET; queues and topics are not served here")
	}
	t, e := parseTarget(arn, "")
	if e != nil {
		return wrong("is not the ARN of a function")
	}
	if t.Qualifier != "" && t.Qualifier != latest {
		return wrong("has a qualifier; the newest version is called")
	}
	if _, err := a.cfg.Registry.Latest(t.Name); err != nil {
		return wrong("names a function that there is not; deploy it first")
	}
	return nil
}

// async returns a function that has a configuration of asynchronous calls.
func (a *API) async(q *request) (resolved, *apiError) {
	h, e := a.theWhole(q)
	if e == nil && h.settings.Async.LastModified.IsZero() {
		e = noAsync(q, h.Name)
	}
	return h, e
}

func (a *API) getAsync(w http.ResponseWriter, q *request) *apiError {
	h, e := a.async(q)
	if e != nil {
		return e
	}
	answer(w, http.StatusOK, showAsync(q, h))
	return nil
}

func (a *API) deleteAsync(w http.ResponseWriter, q *request) *apiError {
	h, e := a.async(q)
	if e != nil {
		return e
	}
	if _, e := a.change(q, h.Name, "", false, func(_ *functions.Spec, l *functions.LambdaSettings) *apiError {
		l.Async = functions.AsyncConfig{}
		return nil
	}); e != nil {
		return e
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// listAsync has one entry at most: the configuration is the function's.
func (a *API) listAsync(w http.ResponseWriter, q *request) *apiError {
	h, e := a.theWhole(q)
	if e != nil {
		return e
	}
	all := []asyncConfiguration{}
	if !h.settings.Async.LastModified.IsZero() {
		all = append(all, showAsync(q, h))
	}
	part, next, e := page(q, all, func(c asyncConfiguration) string { return c.FunctionArn }, maxPage)
	if e != nil {
		return e
	}
	answer(w, http.StatusOK, struct {
		FunctionEventInvokeConfigs []asyncConfiguration
		NextMarker                 string `json:",omitempty"`
	}{part, next})
	return nil
}
