package lambda

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/spillway/spillway/functions"
)

// creation is the body of CreateFunction.
type creation struct {
	settable
	PackageType   string
	Code          json.RawMessage
	Architectures []string
	Publish       bool
	Tags          map[string]string
}

// createFunction makes the first version. It speaks the lambda contract unless a
// tag says otherwise, and has Lambda's time-out of three seconds.
func (a *API) createFunction(w http.ResponseWriter, q *request) *apiError {
	var c creation
	if e := q.decode(&c, absentConfig); e != nil {
		return e
	}
	t, e := parseTarget(url.PathEscape(c.FunctionName), "")
	if e == nil && t.Qualifier != "" {
		e = problem(codeInvalidParameter, "FunctionName: %.140s has a qualifier, and a new function has no versions yet", c.FunctionName)
	}
	if e == nil && c.PackageType != "Image" {
		e = problem(codeInvalidParameter, "PackageType: %s", notZip)
	}
	if e != nil {
		return e
	}
	code := codeOf{Architectures: c.Architectures}
	part := *q
	part.body = c.Code
	if e := firstOf(part.decode(&code, absentCode), code.fault(), c.fault(), tagFault(c.Tags)); e != nil {
		return e
	}
	spec := functions.Spec{
		Name: t.Name, Image: code.ImageUri, Contract: functions.LambdaContract,
		Timeout: functions.Duration(defaultTimeout * time.Second),
	}
	settings := functions.LambdaSettings{Tags: maps.Clone(c.Tags)}
	if e := c.apply(&spec, &settings); e != nil {
		return e
	}
	h, e := a.create(q, spec, settings)
	if e != nil {
		return e
	}
	shown := show(q.region, h, "")
	if c.Publish {
		shown = numbered(q.region, h)
	}
	answer(w, http.StatusCreated, shown)
	return nil
}

// create stores the settings first: a function that is in force has its own, and
// none of a deleted one.
func (a *API) create(q *request, spec functions.Spec, l functions.LambdaSettings) (h resolved, e *apiError) {
	if err := spec.WithDefaults().Validate(); err != nil {
		return h, problemOf(err)
	}
	a.changes.Lock()
	defer a.changes.Unlock()
	_, err := a.cfg.Registry.Latest(spec.Name)
	if err == nil {
		return h, problem(codeConflict, "Function already exist: %s", spec.Name)
	}
	if !errors.Is(err, functions.ErrNotFound) {
		return h, problemOf(err)
	}
	l.First = 1
	if old := a.cfg.Registry.Versions(spec.Name); len(old) > 0 {
		l.First = old[len(old)-1].Version + 1
	}
	_, rev, err := a.cfg.Settings.Get(q.Context(), spec.Name)
	if err == nil {
		err = a.cfg.Settings.Put(q.Context(), spec.Name, l, rev)
	}
	if err == nil {
		h.settings = l
		h.Function, _, err = a.cfg.Registry.Deploy(q.Context(), spec)
	}
	if err != nil {
		return h, problemOf(err)
	}
	a.cfg.Log.Info("function deployed", "function", h.Name, "version", h.Version, "request", q.id)
	return h, nil
}
