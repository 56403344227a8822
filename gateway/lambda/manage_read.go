package lambda

import (
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/spillway/spillway/functions"
)

func (a *API) getFunction(w http.ResponseWriter, q *request) *apiError {
	h, t, e := a.theNamed(q)
	if e != nil {
		return e
	}
	type code struct {
		RepositoryType   string
		ImageUri         string
		ResolvedImageUri string `json:",omitempty"`
	}
	found := struct {
		Configuration configuration
		Code          code
		Tags          map[string]string `json:",omitempty"`
		Concurrency   *concurrency      `json:",omitempty"`
	}{show(q.region, h, t.Qualifier), code{RepositoryType: "ECR", ImageUri: h.Image}, h.settings.Tags, reserved(h)}
	if digestOf(h.Image) != "" {
		found.Code.ResolvedImageUri = h.Image
	}
	answer(w, http.StatusOK, found)
	return nil
}

func (a *API) getConfiguration(w http.ResponseWriter, q *request) *apiError {
	h, t, e := a.theNamed(q)
	if e != nil {
		return e
	}
	answer(w, http.StatusOK, show(q.region, h, t.Qualifier))
	return nil
}

// deleteFunction takes a function out of force. Its accepted tasks still run.
func (a *API) deleteFunction(w http.ResponseWriter, q *request) *apiError {
	t, e := q.named()
	if e == nil && t.Qualifier != "" {
		e = problem(codeInvalidParameter, "%.140s: versions are kept for the tasks that were accepted for them; delete the function, or leave the version", t.Qualifier)
	}
	if e != nil {
		return e
	}
	a.changes.Lock()
	defer a.changes.Unlock()
	if _, e := a.newest(q, t.Name); e != nil {
		return e
	}
	if err := a.cfg.Registry.Delete(q.Context(), t.Name); err != nil {
		return problemOf(err)
	}
	a.cfg.Log.Info("function deleted", "function", t.Name, "request", q.id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// entry is a place in a list of functions.
type entry struct {
	functions.Function
	qualifier string
}

func (e entry) key() string {
	n := 0
	if e.qualifier != latest && e.qualifier != "" {
		n = e.Version
	}
	return fmt.Sprintf("%s\x00%012d", e.Name, n)
}

type functionPage struct {
	Functions  []configuration
	NextMarker string `json:",omitempty"`
}

// listFunctions shows the newest version of each function, or with
// FunctionVersion=ALL every version.
func (a *API) listFunctions(w http.ResponseWriter, q *request) *apiError {
	which := q.URL.Query().Get("FunctionVersion")
	if which != "" && which != "ALL" {
		return outside(which, "functionVersion", "Member must satisfy enum value set: [ALL]")
	}
	var all []entry
	for _, f := range a.cfg.Registry.List() {
		if which == "" {
			all = append(all, entry{f, ""})
			continue
		}
		h, e := a.newest(q, f.Name)
		if e != nil && e.code == codeNotFound { // deleted since
			continue
		}
		if e != nil {
			return e
		}
		all = append(all, a.versionsOf(h)...)
	}
	part, next, e := page(q, all, entry.key, 10000)
	if e != nil {
		return e
	}
	shown := functionPage{Functions: []configuration{}, NextMarker: next}
	for _, f := range part {
		l, _, err := a.cfg.Settings.Get(q.Context(), f.Name)
		if err != nil {
			return problemOf(err)
		}
		shown.Functions = append(shown.Functions, show(q.region, resolved{Function: f.Function, settings: l}, f.qualifier))
	}
	answer(w, http.StatusOK, shown)
	return nil
}

// versionsOf lists the newest version of h as $LATEST, and all of them by number.
func (a *API) versionsOf(h resolved) []entry {
	all := []entry{{h.Function, latest}}
	for _, f := range a.cfg.Registry.Versions(h.Name) {
		if f.Version >= h.settings.First {
			all = append(all, entry{f, strconv.Itoa(f.Version)})
		}
	}
	return all
}

func (a *API) listVersions(w http.ResponseWriter, q *request) *apiError {
	h, e := a.theWhole(q)
	if e != nil {
		return e
	}
	part, next, e := page(q, a.versionsOf(h), entry.key, 10000)
	if e != nil {
		return e
	}
	shown := struct {
		Versions   []configuration
		NextMarker string `json:",omitempty"`
	}{[]configuration{}, next}
	for _, f := range part {
		shown.Versions = append(shown.Versions, show(q.region, resolved{Function: f.Function, settings: h.settings}, f.qualifier))
	}
	answer(w, http.StatusOK, shown)
	return nil
}

// accountSettings tells how many functions there are. No limit is set on all of
// them together: the machines are the limit.
func (a *API) accountSettings(w http.ResponseWriter, q *request) *apiError {
	all, taken := a.cfg.Registry.List(), 0
	for _, f := range all {
		taken += f.Concurrency
	}
	type limit struct {
		TotalCodeSize, CodeSizeUnzipped, CodeSizeZipped      int64
		ConcurrentExecutions, UnreservedConcurrentExecutions int
	}
	type usage struct{ TotalCodeSize, FunctionCount int64 }
	answer(w, http.StatusOK, struct {
		AccountLimit limit
		AccountUsage usage
	}{limit{ConcurrentExecutions: math.MaxInt32, UnreservedConcurrentExecutions: math.MaxInt32 - taken}, usage{FunctionCount: int64(len(all))}})
	return nil
}
