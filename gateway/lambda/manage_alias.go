package lambda

import (
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/spillway/spillway/functions"
)

// aliasConfiguration is how Lambda shows an alias.
type aliasConfiguration struct {
	AliasArn        string
	Name            string
	FunctionVersion string
	Description     string
	RevisionId      string
}

// aliasBody is what may be said of an alias. FunctionName is in the path, and so
// is Name when an alias is changed.
type aliasBody struct {
	FunctionName    string
	Name            string
	FunctionVersion *string
	Description     *string
	RevisionId      string
}

// absentAlias says why traffic is not split: a retry of the same call must reach
// the same version.
var absentAlias = map[string]absent{
	"RoutingConfig": {why: "an alias names one version here; point another alias at the other", unless: `{"AdditionalVersionWeights":{}}`},
}

func showAlias(q *request, fn functions.Name, name string, alias functions.Alias) aliasConfiguration {
	number := latest
	if alias.Version > 0 {
		number = strconv.Itoa(alias.Version)
	}
	return aliasConfiguration{
		AliasArn: ARN(q.region, fn, name), Name: name, FunctionVersion: number, Description: alias.Description,
		RevisionId: revisionOf(string(fn), name, number, alias.Description),
	}
}

func noAlias(q *request, fn functions.Name, name string) *apiError {
	return problem(codeNotFound, "Cannot find alias arn: %s", ARN(q.region, fn, name))
}

// aliasOf reads the function and the alias that the path names.
func aliasOf(q *request) (functions.Name, string, *apiError) {
	fn, e := q.whole()
	name := pathValue(q.Request, "alias")
	if e == nil && !isAlias(name) {
		e = badAlias(name)
	}
	return fn, name, e
}

func badAlias(name string) *apiError {
	return outside(name, "name", "Member must be 1 to 128 letters, digits, '-' or '_', and not a number")
}

func (a *API) createAlias(w http.ResponseWriter, q *request) *apiError {
	var c aliasBody
	fn, e := q.whole()
	if e := firstOf(e, q.decode(&c, absentAlias), described(c.Description)); e != nil {
		return e
	}
	if !isAlias(c.Name) {
		return badAlias(c.Name)
	}
	if c.FunctionVersion == nil {
		return outside("null", "functionVersion", "Member must not be null")
	}
	made, e := a.changeAliases(q, fn, func(all map[string]functions.Alias) *apiError {
		if _, ok := all[c.Name]; ok {
			return problem(codeConflict, "Alias already exists: %s", ARN(q.region, fn, c.Name))
		}
		return a.point(q, fn, all, c.Name, c)
	})
	if e != nil {
		return e
	}
	answer(w, http.StatusCreated, showAlias(q, fn, c.Name, made[c.Name]))
	return nil
}

func (a *API) updateAlias(w http.ResponseWriter, q *request) *apiError {
	var c aliasBody
	fn, name, e := aliasOf(q)
	if e := firstOf(e, q.decode(&c, absentAlias), described(c.Description)); e != nil {
		return e
	}
	now, e := a.changeAliases(q, fn, func(all map[string]functions.Alias) *apiError {
		was, ok := all[name]
		if !ok {
			return noAlias(q, fn, name)
		}
		if c.RevisionId != "" && c.RevisionId != showAlias(q, fn, name, was).RevisionId {
			return stale(c.RevisionId)
		}
		return a.point(q, fn, all, name, c)
	})
	if e != nil {
		return e
	}
	answer(w, http.StatusOK, showAlias(q, fn, name, now[name]))
	return nil
}

// point writes what c says into the alias.
func (a *API) point(q *request, fn functions.Name, all map[string]functions.Alias, name string, c aliasBody) *apiError {
	alias := all[name]
	set(&alias.Description, c.Description)
	if v := c.FunctionVersion; v != nil {
		if *v != latest && !isNumber(*v) {
			return outside(*v, "functionVersion", "Member must be $LATEST or a number")
		}
		found, e := a.pick(q, target{Name: fn, Qualifier: *v})
		if e != nil {
			return e
		}
		if alias.Version = found.Version; *v == latest {
			alias.Version = 0
		}
	}
	all[name] = alias
	return nil
}

// changeAliases applies an edit to a copy of the function's aliases.
func (a *API) changeAliases(q *request, fn functions.Name, apply func(all map[string]functions.Alias) *apiError) (map[string]functions.Alias, *apiError) {
	h, e := a.change(q, fn, "", false, func(_ *functions.Spec, l *functions.LambdaSettings) *apiError {
		all := cloned(l.Aliases)
		if e := apply(all); e != nil {
			return e
		}
		l.Aliases = all
		if len(all) == 0 {
			l.Aliases = nil
		}
		return nil
	})
	return h.settings.Aliases, e
}

func (a *API) getAlias(w http.ResponseWriter, q *request) *apiError {
	fn, name, e := aliasOf(q)
	if e != nil {
		return e
	}
	h, e := a.newest(q, fn)
	if e != nil {
		return e
	}
	alias, ok := h.settings.Aliases[name]
	if !ok {
		return noAlias(q, fn, name)
	}
	answer(w, http.StatusOK, showAlias(q, fn, name, alias))
	return nil
}

// deleteAlias is well when there is no such alias, as with Lambda.
func (a *API) deleteAlias(w http.ResponseWriter, q *request) *apiError {
	fn, name, e := aliasOf(q)
	if e != nil {
		return e
	}
	if _, e := a.changeAliases(q, fn, func(all map[string]functions.Alias) *apiError {
		delete(all, name)
		return nil
	}); e != nil {
		return e
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) listAliases(w http.ResponseWriter, q *request) *apiError {
	h, e := a.theWhole(q)
	if e != nil {
		return e
	}
	var all []aliasConfiguration
	of := q.URL.Query().Get("FunctionVersion")
	for _, name := range slices.Sorted(maps.Keys(h.settings.Aliases)) {
		if shown := showAlias(q, h.Name, name, h.settings.Aliases[name]); of == "" || of == shown.FunctionVersion {
			all = append(all, shown)
		}
	}
	part, next, e := page(q, all, func(c aliasConfiguration) string { return c.Name }, 10000)
	if e != nil {
		return e
	}
	answer(w, http.StatusOK, struct {
		Aliases    []aliasConfiguration
		NextMarker string `json:",omitempty"`
	}{append([]aliasConfiguration{}, part...), next})
	return nil
}
