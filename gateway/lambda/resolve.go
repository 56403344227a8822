package lambda

import (
	"context"
	"errors"
	"strconv"

	"github.com/spillway/spillway/functions"
)

// Settings keeps what AWS's API knows of a function beside its versions; rev
// guards a change against another. Of a function that has none, Get returns zero
// settings and revision 0.
type Settings interface {
	Get(ctx context.Context, fn functions.Name) (s functions.LambdaSettings, rev uint64, err error)
	Put(ctx context.Context, fn functions.Name, s functions.LambdaSettings, rev uint64) error
}

// resolved is the function that a call means.
type resolved struct {
	functions.Function
	executed string // $LATEST or a number, as X-Amz-Executed-Version says it
	settings functions.LambdaSettings
}

// resolve finds the function, and the version of it, that t names.
func (a *API) resolve(ctx context.Context, t target, region string) (resolved, *apiError) {
	var r resolved
	if a.cfg.Settings != nil {
		var err error
		if r.settings, _, err = a.cfg.Settings.Get(ctx, t.Name); err != nil {
			return r, problemOf(err)
		}
	}
	n, ok := t.version()
	if !ok {
		alias, known := r.settings.Aliases[t.Qualifier]
		if !known {
			return r, problem(codeNotFound, "Cannot find alias arn: %s", ARN(region, t.Name, t.Qualifier))
		}
		n = alias.Version
	}
	missing := notFound(ARN(region, t.Name, t.Qualifier))
	var err error
	switch {
	case n == 0:
		r.executed = latest
		r.Function, err = a.cfg.Functions.Latest(t.Name)
	case n < r.settings.First: // of a deleted function that had this name
		return r, missing
	default:
		r.executed = strconv.Itoa(n)
		r.Function, err = a.cfg.Functions.Version(t.Name, n)
	}
	if errors.Is(err, functions.ErrNotFound) || errors.Is(err, functions.ErrInvalid) {
		return r, missing
	}
	if err != nil {
		return r, problemOf(err)
	}
	return r, nil
}
