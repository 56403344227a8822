package lambda

import (
	"maps"
	"net/http"
	"slices"

	"github.com/spillway/spillway/functions"
)

func (a *API) tag(w http.ResponseWriter, q *request) *apiError {
	var c struct {
		Resource string // it is in the path
		Tags     map[string]string
	}
	name, e := q.whole()
	if e := firstOf(e, q.decode(&c, nil)); e != nil {
		return e
	}
	if len(c.Tags) == 0 {
		return problem(codeInvalidParameter, "Tags: is empty")
	}
	return a.retag(w, q, name, func(tags map[string]string) { maps.Copy(tags, c.Tags) }, nil)
}

func (a *API) untag(w http.ResponseWriter, q *request) *apiError {
	name, e := q.whole()
	if e != nil {
		return e
	}
	keys := q.URL.Query()["tagKeys"]
	if len(keys) == 0 {
		return problem(codeInvalidParameter, "tagKeys: is empty")
	}
	return a.retag(w, q, name, func(tags map[string]string) {
		for _, k := range keys {
			delete(tags, k)
		}
	}, keys)
}

// retag changes the tags, and the spec where they are settings.
func (a *API) retag(w http.ResponseWriter, q *request, name functions.Name, change func(map[string]string), asked []string) *apiError {
	_, e := a.change(q, name, "", false, func(s *functions.Spec, l *functions.LambdaSettings) *apiError {
		tags := cloned(l.Tags)
		change(tags)
		if e := tagFault(tags); e != nil {
			return e
		}
		removed := slices.DeleteFunc(slices.Clone(asked), func(k string) bool { _, had := l.Tags[k]; return !had })
		l.Tags = tags
		if len(tags) == 0 {
			l.Tags = nil
		}
		return applyTags(s, tags, removed)
	})
	if e != nil {
		return e
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) listTags(w http.ResponseWriter, q *request) *apiError {
	h, e := a.theWhole(q)
	if e != nil {
		return e
	}
	answer(w, http.StatusOK, struct{ Tags map[string]string }{cloned(h.settings.Tags)})
	return nil
}
