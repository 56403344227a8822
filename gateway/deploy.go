package gateway

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/spillway/spillway/functions"
)

type functionList struct {
	Functions []functions.Function `json:"functions"`
}

// deploy makes a version of a function. The same spec again is the same version.
func (g *Gateway) deploy(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(w, r, maxSmall)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return functions.Invalid("bad_spec", "the body is empty").WithHint("send the function's spec as YAML or JSON")
	}
	spec, err := g.cfg.Parse(b)
	if err != nil {
		return err
	}
	fn, created, err := g.cfg.Functions.Deploy(r.Context(), spec)
	if err != nil {
		return fmt.Errorf("deploy %s: %w", spec.Name, err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		g.log.Info("function deployed", "function", fn.Name, "version", fn.Version)
	}
	w.Header().Set("Location", "/v1/functions/"+string(fn.Name))
	return writeJSON(w, status, g.deployed(w.Header(), fn))
}

func (g *Gateway) listFunctions(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, functionList{append([]functions.Function{}, g.cfg.Functions.List()...)})
}

func (g *Gateway) getFunction(w http.ResponseWriter, r *http.Request) error {
	name, err := pathName(r)
	if err != nil {
		return err
	}
	fn, err := g.cfg.Functions.Latest(name)
	if v := r.URL.Query().Get("version"); err == nil && v != "" {
		n, convErr := strconv.Atoi(v)
		if convErr != nil {
			return functions.Invalid("bad_version", "%.40q is not a version", v).WithField("version")
		}
		fn, err = g.cfg.Functions.Version(name, n)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, fn)
}

func (g *Gateway) listVersions(w http.ResponseWriter, r *http.Request) error {
	name, err := pathName(r)
	if err != nil {
		return err
	}
	if _, err := g.cfg.Functions.Latest(name); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, functionList{append([]functions.Function{}, g.cfg.Functions.Versions(name)...)})
}

// deleteFunction takes a function out of service. Its accepted tasks still run.
func (g *Gateway) deleteFunction(w http.ResponseWriter, r *http.Request) error {
	name, err := pathName(r)
	if err != nil {
		return err
	}
	if _, err := g.cfg.Functions.Latest(name); err != nil {
		return err
	}
	if err := g.cfg.Functions.Delete(r.Context(), name); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	g.log.Info("function deleted", "function", name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
