package lambda

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/spillway/spillway/functions"
)

// Registry keeps the deployed functions and makes versions of them. Delete also
// forgets a function's settings.
type Registry interface {
	Functions
	Deploy(ctx context.Context, spec functions.Spec) (f functions.Function, created bool, err error)
	Versions(name functions.Name) []functions.Function
	List() []functions.Function
	Delete(ctx context.Context, name functions.Name) error
}

// manageRoutes are the calls that make, read and change functions.
//
// # Versions
//
// Spillway numbers every spec that was in force, and none ever changes. So
// $LATEST is the newest number, each change of code or configuration makes the
// next one, and PublishVersion has nothing to copy: it returns the newest, or
// makes a next one when it brings another description. A version stays for ever,
// since accepted tasks may wait for it. Aliases, tags, reserved concurrency and
// the configuration of asynchronous calls are the function's and not a version's.
func (a *API) manageRoutes() []route {
	const (
		all    = "/2015-03-31/functions{slash:/?}"
		one    = "/2015-03-31/functions/{name}"
		alias  = one + "/aliases/{alias}"
		async  = "/2019-09-25/functions/{name}/event-invoke-config"
		tagged = "/2017-03-31/tags/{name}"
	)
	return []route{
		{http.MethodPost, all, a.createFunction},
		{http.MethodGet, all, a.listFunctions},
		{http.MethodGet, one, a.getFunction},
		{http.MethodDelete, one, a.deleteFunction},
		{http.MethodGet, one + "/configuration", a.getConfiguration},
		{http.MethodPut, one + "/configuration", a.updateConfiguration},
		{http.MethodPut, one + "/code", a.updateCode},
		{http.MethodPost, one + "/versions", a.publishVersion},
		{http.MethodGet, one + "/versions", a.listVersions},
		{http.MethodPost, one + "/aliases", a.createAlias},
		{http.MethodGet, one + "/aliases", a.listAliases},
		{http.MethodGet, alias, a.getAlias},
		{http.MethodPut, alias, a.updateAlias},
		{http.MethodDelete, alias, a.deleteAlias},
		{http.MethodPut, "/2017-10-31/functions/{name}/concurrency", a.putConcurrency},
		{http.MethodDelete, "/2017-10-31/functions/{name}/concurrency", a.deleteConcurrency},
		{http.MethodGet, "/2019-09-30/functions/{name}/concurrency", a.getConcurrency},
		{http.MethodPut, async, a.putAsync},
		{http.MethodPost, async, a.updateAsync},
		{http.MethodGet, async, a.getAsync},
		{http.MethodDelete, async, a.deleteAsync},
		{http.MethodGet, async + "/list", a.listAsync},
		{http.MethodPost, tagged, a.tag},
		{http.MethodDelete, tagged, a.untag},
		{http.MethodGet, tagged, a.listTags},
		{http.MethodGet, "/2016-08-19/account-settings{slash:/?}", a.accountSettings},
	}
}

// named is the target of a call whose path names a function.
func (q *request) named() (target, *apiError) {
	return parseTarget(pathValue(q.Request, "name"), q.URL.Query().Get("Qualifier"))
}

// theNamed is the version that the path and the qualifier name, and its settings.
func (a *API) theNamed(q *request) (resolved, target, *apiError) {
	t, e := q.named()
	if e != nil {
		return resolved{}, t, e
	}
	h, e := a.pick(q, t)
	return h, t, e
}

// whole is the function that the path names, for calls that know no qualifier
// but the newest version's.
func (q *request) whole() (functions.Name, *apiError) {
	t, e := q.named()
	if e == nil && t.Qualifier != "" && t.Qualifier != latest {
		e = problem(codeInvalidParameter, "%.140s: this is said of the function as a whole; leave the qualifier out", t.Qualifier)
	}
	return t.Name, e
}

// theWhole is the newest version of the function that whole names, and its settings.
func (a *API) theWhole(q *request) (resolved, *apiError) {
	name, e := q.whole()
	if e != nil {
		return resolved{}, e
	}
	return a.newest(q, name)
}

// newest returns the newest version of a function, and its settings.
func (a *API) newest(q *request, name functions.Name) (resolved, *apiError) {
	h, _, e := a.revision(q, name)
	return h, e
}

// revision is newest with the revision of the settings.
func (a *API) revision(q *request, name functions.Name) (h resolved, rev uint64, e *apiError) {
	var err error
	if h.Function, err = a.cfg.Registry.Latest(name); errors.Is(err, functions.ErrNotFound) {
		return h, 0, notFound(ARN(q.region, name, ""))
	}
	if err == nil {
		h.settings, rev, err = a.cfg.Settings.Get(q.Context(), name)
	}
	if err != nil {
		return h, 0, problemOf(err)
	}
	return h, rev, nil
}

// pick returns the version of a function that t names, as long as the function is
// in force: tasks still find the versions of a deleted one.
func (a *API) pick(q *request, t target) (resolved, *apiError) {
	last, e := a.newest(q, t.Name)
	if e != nil {
		return last, e
	}
	h, e := a.resolve(q.Context(), t, q.region)
	if e == nil && h.Version > last.Version { // a deploy that was never finished
		e = notFound(ARN(q.region, t.Name, t.Qualifier))
	}
	return h, e
}

// edit is a change of the newest version and of the settings. It replaces maps
// and pointers, and changes none in place.
type edit func(s *functions.Spec, l *functions.LambdaSettings) *apiError

// change applies an edit and stores what it changed; an edit that changes nothing
// stores nothing, and a dry one only checks. revision may be empty. Changes of
// this server go one after another; those of two servers at once are caught by
// the settings' revision when both touch the settings, and otherwise the later
// spec is in force.
func (a *API) change(q *request, name functions.Name, revision string, dry bool, apply edit) (resolved, *apiError) {
	a.changes.Lock()
	defer a.changes.Unlock()
	for {
		was, rev, e := a.revision(q, name)
		if e != nil {
			return was, e
		}
		if revision != "" && revision != was.revisionID() {
			return was, stale(revision)
		}
		now := was
		if e := apply(&now.Spec, &now.settings); e != nil {
			return was, e
		}
		again, e := a.store(q, was, &now, rev, dry)
		if e != nil || !again {
			return now, e
		}
	}
}

// store writes what differs of now from was; again is true when another server
// changed the settings meanwhile. The spec is checked before anything is written.
func (a *API) store(q *request, was resolved, now *resolved, rev uint64, dry bool) (again bool, e *apiError) {
	now.Spec = now.Spec.WithDefaults()
	if err := now.Spec.Validate(); err != nil {
		return false, problemOf(err)
	}
	if dry {
		return false, nil
	}
	if !reflect.DeepEqual(was.settings, now.settings) {
		err := a.cfg.Settings.Put(q.Context(), now.Name, now.settings, rev)
		if errors.Is(err, functions.ErrConflict) && q.Context().Err() == nil {
			return true, nil
		}
		if err != nil {
			return false, problemOf(err)
		}
	}
	if reflect.DeepEqual(was.Spec.WithDefaults(), now.Spec) {
		return false, nil
	}
	var err error
	if now.Function, _, err = a.cfg.Registry.Deploy(q.Context(), now.Spec); err != nil {
		return false, problemOf(err)
	}
	a.cfg.Log.Info("function deployed", "function", now.Name, "version", now.Version, "request", q.id)
	return false, nil
}

func stale(revision string) *apiError {
	return problem(codePrecondition, "The Revision Id provided, %.80s, does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id", revision)
}
