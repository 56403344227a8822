package lambda

import (
	"maps"
	"net/http"

	"github.com/spillway/spillway/functions"
)

// updateCode makes a version with another image.
func (a *API) updateCode(w http.ResponseWriter, q *request) *apiError {
	var c struct {
		codeOf
		FunctionName string // it is in the path
		Publish      bool
		DryRun       bool
		RevisionId   string
	}
	without := maps.Clone(absentCode)
	without["PublishTo"] = absentConfig["PublishTo"]
	name, e := q.whole()
	if e := firstOf(e, q.decode(&c, without), c.fault()); e != nil {
		return e
	}
	h, e := a.change(q, name, c.RevisionId, c.DryRun, func(s *functions.Spec, _ *functions.LambdaSettings) *apiError {
		s.Image = c.ImageUri
		return nil
	})
	return answerChange(w, q, h, e, c.Publish && !c.DryRun)
}

// updateConfiguration makes a version with the members that the body has.
func (a *API) updateConfiguration(w http.ResponseWriter, q *request) *apiError {
	var c struct {
		settable
		RevisionId string
	}
	name, e := q.whole()
	if e := firstOf(e, q.decode(&c, absentConfig), c.fault()); e != nil {
		return e
	}
	h, e := a.change(q, name, c.RevisionId, false, c.apply)
	return answerChange(w, q, h, e, false)
}

func answerChange(w http.ResponseWriter, q *request, h resolved, e *apiError, publish bool) *apiError {
	if e != nil {
		return e
	}
	shown := show(q.region, h, "")
	if publish {
		shown = numbered(q.region, h)
	}
	answer(w, http.StatusOK, shown)
	return nil
}

// publishVersion answers with the newest version, which is immutable already.
func (a *API) publishVersion(w http.ResponseWriter, q *request) *apiError {
	var c struct {
		FunctionName string // it is in the path
		CodeSha256   string
		Description  string
		RevisionId   string
	}
	name, e := q.whole()
	if e := firstOf(e, q.decode(&c, map[string]absent{"PublishTo": absentConfig["PublishTo"]}), described(&c.Description)); e != nil {
		return e
	}
	h, e := a.change(q, name, c.RevisionId, false, func(s *functions.Spec, _ *functions.LambdaSettings) *apiError {
		if have := codeSum(s.Image); c.CodeSha256 != "" && c.CodeSha256 != have {
			return problem(codeInvalidParameter, "CodeSHA256 (%.80s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.", c.CodeSha256, have)
		}
		if c.Description != "" {
			s.Description = c.Description
		}
		return nil
	})
	if e != nil {
		return e
	}
	answer(w, http.StatusCreated, numbered(q.region, h))
	return nil
}
