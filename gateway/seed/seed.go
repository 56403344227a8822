// Package seed serves the API of the older ingest service, so that its clients
// work unchanged: the same routes, field names and status words. What it adds
// are fields, and true numbers where there were constants.
//
// One call, front to back: the multipart body is read part by part, the file
// streams straight into the object store, and only when every field is known
// (clients send gpu=true behind the file) is a function chosen and the task
// accepted through the same door as every other. A file at a URL is looked at
// here and brought by the node.
//
// The older service's routes for its own workers (files/download and
// files/upload-result) have no place here: nodes read and write the store.
package seed

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// Door takes files and tasks in; *intake.Door is one.
type Door interface {
	NewID() functions.TaskID
	StoreInput(ctx context.Context, id functions.TaskID, name string, r io.Reader, size int64, declared string) (functions.Input, content.Type, error)
	Look(ctx context.Context, r intake.Ref) (functions.Input, content.Type, error)
	Accept(ctx context.Context, c intake.Call) (intake.Ticket, error)
	Discard(ctx context.Context, inputs []functions.Input) error
}

// Functions knows what is deployed.
type Functions interface {
	List() []functions.Function
}

// Tasks reads the projection of the log.
type Tasks interface {
	Task(ctx context.Context, id functions.TaskID) (functions.Task, error)
	List(ctx context.Context, q functions.TaskQuery) (functions.TaskPage, error)
	Counts(ctx context.Context) (functions.Counts, error)
	Waiting(ctx context.Context) (map[functions.Device]int64, error)
	WaitApplied(ctx context.Context, seq uint64) error
}

// Nodes knows the nodes.
type Nodes interface {
	Nodes() []functions.NodeStatus
}

// Control writes a client's wish to the log.
type Control interface {
	Submit(ctx context.Context, e functions.Event) (seq uint64, err error)
}

// Progress knows the newest live report on a running task.
type Progress interface {
	Progress(id functions.TaskID) (functions.Progress, bool)
}

// Config is what the API needs. Progress, Now and Log may be nil.
type Config struct {
	Door      Door
	Functions Functions
	Tasks     Tasks
	Nodes     Nodes
	Control   Control
	Progress  Progress
	MaxUpload functions.Bytes // of one request; 0 means 10 GiB, the largest video its users spoke of
	Now       func() time.Time
	Log       *slog.Logger
}

// API is the seed's API.
type API struct {
	cfg Config
}

// New returns the API.
func New(c Config) *API {
	c.MaxUpload = cmp.Or(c.MaxUpload, 10*functions.GiB)
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return &API{cfg: c}
}

// Routes registers every route. Paths are templates of net/http and gorilla/mux
// alike. The fixed paths come before the one with a variable, for routers that
// take the first match.
func (a *API) Routes(register func(method, path string, h http.HandlerFunc)) {
	handle := func(method, path string, h func(http.ResponseWriter, *http.Request) error) {
		register(method, path, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				a.fail(w, r, err)
			}
		})
	}
	handle("POST", "/api/v1/ingest/file", a.ingestFile)
	handle("POST", "/api/v1/ingest/url", a.ingestURL)
	handle("POST", "/api/v1/ingest/batch", a.ingestBatch)
	handle("DELETE", "/api/v1/ingest/{task_id}", a.cancel)
	handle("GET", "/api/v1/status/stats/queues", a.queues)
	handle("GET", "/api/v1/status/workers", a.workers)
	handle("GET", "/api/v1/status/", a.active)
	handle("GET", "/api/v1/status/{task_id}", a.status)
}

// lastElement is the variable of a path, which ends every path that has one. It
// serves any router.
func lastElement(r *http.Request) string {
	p := r.URL.Path
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '/' {
			return p[i+1:]
		}
	}
	return p
}
