package lambda

import (
	"net/http"

	"github.com/spillway/spillway/functions"
)

// concurrency is how many tasks of a function run at once: the spec's own cap,
// or the 0 of its settings, by which it refuses every call.
type concurrency struct{ ReservedConcurrentExecutions int }

// reserved is nil for a function that has no cap.
func reserved(h resolved) *concurrency {
	switch n := h.settings.Concurrency; {
	case n != nil:
		return &concurrency{*n}
	case h.Concurrency > 0:
		return &concurrency{h.Concurrency}
	}
	return nil
}

func (a *API) putConcurrency(w http.ResponseWriter, q *request) *apiError {
	var c struct {
		FunctionName                 string // it is in the path
		ReservedConcurrentExecutions *int
	}
	name, e := q.whole()
	if e := firstOf(e, q.decode(&c, nil), within(c.ReservedConcurrentExecutions, "reservedConcurrentExecutions", 0, maxReserved)); e != nil {
		return e
	}
	n := c.ReservedConcurrentExecutions
	if n == nil {
		return outside("null", "reservedConcurrentExecutions", "Member must not be null")
	}
	if _, e := a.change(q, name, "", false, func(s *functions.Spec, l *functions.LambdaSettings) *apiError {
		if *n == 0 { // in a spec, 0 means that there is no cap
			l.Concurrency = n
			return nil
		}
		s.Concurrency, l.Concurrency = *n, nil
		return nil
	}); e != nil {
		return e
	}
	answer(w, http.StatusOK, concurrency{*n})
	return nil
}

func (a *API) getConcurrency(w http.ResponseWriter, q *request) *apiError {
	h, e := a.theWhole(q)
	if e != nil {
		return e
	}
	if c := reserved(h); c != nil {
		answer(w, http.StatusOK, c)
		return nil
	}
	answer(w, http.StatusOK, struct{}{})
	return nil
}

func (a *API) deleteConcurrency(w http.ResponseWriter, q *request) *apiError {
	name, e := q.whole()
	if e != nil {
		return e
	}
	if _, e := a.change(q, name, "", false, func(s *functions.Spec, l *functions.LambdaSettings) *apiError {
		s.Concurrency, l.Concurrency = 0, nil
		return nil
	}); e != nil {
		return e
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
