package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"github.com/spillway/spillway/functions"
)

// handler answers a request or returns why not; it does not do both.
type handler func(w http.ResponseWriter, r *http.Request) error

// route is one line of the API. A route that is open asks for no key.
type route struct {
	method, path string
	handle       handler
	open         bool
}

// native is the whole API. openapi.json describes each line.
func (g *Gateway) native() []route {
	return []route{
		{"GET", "/livez", g.live, true},
		{"GET", "/healthz", g.live, true},
		{"GET", "/readyz", g.ready, true},
		{"GET", "/openapi.json", g.openapi, true},
		{"GET", "/metrics", g.showMetrics, false},

		{"POST", "/v1/functions", g.deploy, false},
		{"GET", "/v1/functions", g.listFunctions, false},
		{"GET", "/v1/functions/{name}", g.getFunction, false},
		{"DELETE", "/v1/functions/{name}", g.deleteFunction, false},
		{"GET", "/v1/functions/{name}/versions", g.listVersions, false},
		{"POST", "/v1/functions/{name}/invoke", g.invoke, false},
		{"POST", "/function/{name}", g.invoke, false},
		{"POST", "/async-function/{name}", g.invokeAsync, false},

		{"POST", "/v1/tasks", g.submit, false},
		{"GET", "/v1/tasks", g.listTasks, false},
		{"GET", "/v1/tasks/{id}", g.getTask, false},
		{"DELETE", "/v1/tasks/{id}", g.cancel, false},
		{"POST", "/v1/tasks/{id}/cancel", g.cancel, false},
		{"POST", "/v1/tasks/{id}/retry", g.retry, false},
		{"GET", "/v1/tasks/{id}/result", g.result, false},
		{"GET", "/v1/tasks/{id}/logs", g.logs, false},
		{"GET", "/v1/tasks/{id}/events", g.events, false},
		{"GET", "/v1/tasks/{id}/webhook", g.deliveries, false},
		{"GET", "/v1/tasks/{id}/outputs/{name:.+}", g.output, false},

		{"POST", "/v1/uploads", g.createUpload, false},
		{"GET", "/v1/uploads/{id}", g.getUpload, false},
		{"DELETE", "/v1/uploads/{id}", g.deleteUpload, false},
		{"POST", "/v1/uploads/{id}/parts", g.signParts, false},
		{"POST", "/v1/uploads/{id}/complete", g.completeUpload, false},

		{"GET", "/v1/ingest", g.ingestStatus, false},
		{"POST", "/v1/ingest/backfill", g.backfill, false},

		{"GET", "/v1/nodes", g.listNodes, false},
		{"GET", "/v1/nodes/{id}", g.getNode, false},
		{"POST", "/v1/nodes/{id}/gpus/{uuid}/readmit", g.readmit, false},
		{"POST", "/v1/route:explain", g.explain, false},
	}
}

// routes builds the router. mux would clean paths by redirecting, which turns a
// POST into a GET, and would decode %2F before matching: both are off.
func (g *Gateway) routes() *mux.Router {
	m := mux.NewRouter().SkipClean(true).UseEncodedPath()
	add := func(rt route) {
		methods := []string{rt.method}
		if rt.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		m.Handle(rt.path, g.wrap(rt)).Methods(methods...)
	}
	mount := func(mounts []Mount, open bool) {
		for _, mnt := range mounts {
			mnt(func(method, path string, h http.HandlerFunc) {
				add(route{method, path, func(w http.ResponseWriter, r *http.Request) error { h(w, r); return nil }, open})
			})
		}
	}
	for _, rt := range g.native() {
		add(rt)
	}
	mount(g.cfg.Mounts, false)
	mount(g.cfg.OpenMounts, true)
	m.NotFoundHandler = g.wrap(route{path: unmatched, handle: notFound, open: true})
	m.MethodNotAllowedHandler = g.wrap(route{path: unmatched, handle: g.notAllowed, open: true})
	return m
}

// unmatched labels requests that no route takes.
const unmatched = "unmatched"

func notFound(_ http.ResponseWriter, r *http.Request) error {
	return functions.NotFound("no_such_route", "nothing answers at %.200q", r.URL.Path).WithHint("see /openapi.json for every route")
}

// notAllowed names the methods that the path does take; mux does not.
func (g *Gateway) notAllowed(w http.ResponseWriter, r *http.Request) error {
	var allow []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		probe := r.Clone(r.Context())
		probe.Method = method
		var match mux.RouteMatch
		if g.router.Match(probe, &match) && match.MatchErr == nil {
			allow = append(allow, method)
		}
	}
	slices.Sort(allow)
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return &statusError{status: http.StatusMethodNotAllowed, why: functions.Invalid("method_not_allowed", "%.20s is not a method of this route", r.Method).
		WithHint("use %s", strings.Join(allow, ", "))}
}

// pathValue returns a variable of the path, unescaped. A value that is no valid
// escape is returned as it stands and fails the checks of its type.
func pathValue(r *http.Request, name string) string {
	raw := mux.Vars(r)[name]
	if v, err := url.PathUnescape(raw); err == nil {
		return v
	}
	return raw
}

func pathName(r *http.Request) (functions.Name, error) {
	n := functions.Name(pathValue(r, "name"))
	return n, n.Validate()
}
