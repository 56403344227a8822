// Package gateway is the native HTTP API: it turns requests into tasks, and
// tasks into answers.
//
// A request goes through the outer wrapper (middleware.go: id, panic guard, log,
// figures), the table of routes (routes.go) and the key check (auth.go) to a
// handler, which answers or returns an error. Errors become answers in one place
// (errors.go). An invocation is one function from top to bottom (invoke.go): it
// reads the body, hands the call to the door, waits for the task's end and writes
// the function's own result.
//
// The gateway keeps no state of its own. Tasks are read from the projection; the
// Feed, filled by whoever applies the log, wakes those who wait.
package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// Door accepts tasks; *intake.Door is one.
type Door interface {
	NewID() functions.TaskID
	Accept(ctx context.Context, c intake.Call) (intake.Ticket, error)
	Explain(c intake.Call) (functions.Route, error)
	StoreInput(ctx context.Context, id functions.TaskID, name string, r io.Reader, size int64, declared string) (functions.Input, content.Type, error)
	Discard(ctx context.Context, inputs []functions.Input) error
	Arrived(ctx context.Context, t functions.Task, by string) (functions.Task, error)
}

// Appender writes to the log what clients ask of tasks.
type Appender interface {
	Append(ctx context.Context, msgID string, events ...functions.Event) (seq uint64, err error)
}

// Tasks reads the projection of the log.
type Tasks interface {
	Task(ctx context.Context, id functions.TaskID) (functions.Task, error)
	Find(ctx context.Context, idPrefix string) (functions.Task, error)
	List(ctx context.Context, q functions.TaskQuery) (functions.TaskPage, error)
	Counts(ctx context.Context) (functions.Counts, error)
	WaitApplied(ctx context.Context, seq uint64) error
}

// Functions keeps the deployed functions.
type Functions interface {
	Deploy(ctx context.Context, spec functions.Spec) (f functions.Function, created bool, err error)
	Latest(name functions.Name) (functions.Function, error)
	Version(name functions.Name, version int) (functions.Function, error)
	Versions(name functions.Name) []functions.Function
	List() []functions.Function
	Delete(ctx context.Context, name functions.Name) error
}

// Objects reads the store and signs requests to it.
type Objects interface {
	Get(ctx context.Context, ref functions.ObjectRef) (io.ReadCloser, error)
	PresignPut(ctx context.Context, ref functions.ObjectRef, ttl time.Duration) (functions.PresignedRequest, error)
	PresignGet(ctx context.Context, ref functions.ObjectRef, ttl time.Duration, downloadName string) (functions.PresignedRequest, error)
	PresignPost(ctx context.Context, ref functions.ObjectRef, least, most int64, ttl time.Duration) (functions.PostForm, error)

	NewMultipart(ctx context.Context, ref functions.ObjectRef, checksums bool) (uploadID string, err error)
	PresignPart(ctx context.Context, ref functions.ObjectRef, uploadID string, number int, size int64, sum string, ttl time.Duration) (functions.PresignedRequest, error)
	Parts(ctx context.Context, ref functions.ObjectRef, uploadID string) ([]functions.Part, error)
	CompleteMultipart(ctx context.Context, ref functions.ObjectRef, uploadID string, parts []functions.Part) (functions.ObjectRef, error)
	AbortMultipart(ctx context.Context, ref functions.ObjectRef, uploadID string) error
}

// Scheduler says why tasks wait and which nodes there are.
type Scheduler interface {
	Explain(id functions.TaskID) (functions.Waiting, bool)
	Nodes() []functions.NodeStatus
}

// NodeLogs reads what a running attempt wrote. FollowLog hands on lines as they
// come, until ctx ends; it may miss some.
type NodeLogs interface {
	ReadLog(ctx context.Context, node functions.NodeID, task functions.TaskID, attempt int, after int64) ([]functions.LogLine, error)
	FollowLog(ctx context.Context, task functions.TaskID, handle func([]functions.LogLine)) error
}

// Mount adds routes of another package. register takes a gorilla/mux path.
type Mount func(register func(method, path string, h http.HandlerFunc))

// Config is what a Gateway needs. Everything is required unless it says otherwise.
type Config struct {
	Door       Door
	Appender   Appender
	Tasks      Tasks
	Functions  Functions
	Objects    Objects
	Scheduler  Scheduler
	NodeLogs   NodeLogs
	Ingest     Ingest
	Deliveries Deliveries
	Parse      func([]byte) (functions.Spec, error) // of a spec in YAML or JSON, with defaults

	Keys []([sha256.Size]byte) // HashKey of each API key
	Open bool                  // no key is asked for

	Nodes Nodes

	Ready      map[string]func(context.Context) error // parts that must answer; may be empty
	Mounts     []Mount                                // behind the key check
	OpenMounts []Mount                                // check their callers themselves
	Collectors []prometheus.Collector                 // figures of other parts, for /metrics; may be empty
	Version    string                                 // of the build, for /metrics
	Log        *slog.Logger
	Sweep      time.Duration    // between looks for uploads that nobody reported; 0 = 30 s
	Now        func() time.Time // nil means time.Now
}

// Gateway is the native API.
type Gateway struct {
	Feed *Feed // to be told of every change and all progress

	cfg     Config
	log     *slog.Logger
	router  *mux.Router
	metrics *metrics

	arrivals singleflight.Group // of files in parts, by task
	spent    *spent

	foresight foresight
}

// New returns a Gateway. It refuses a configuration that would let nobody in.
func New(cfg Config) (*Gateway, error) {
	for name, missing := range map[string]bool{
		"Door": cfg.Door == nil, "Appender": cfg.Appender == nil, "Tasks": cfg.Tasks == nil, "Functions": cfg.Functions == nil,
		"Objects": cfg.Objects == nil, "Scheduler": cfg.Scheduler == nil, "NodeLogs": cfg.NodeLogs == nil, "Ingest": cfg.Ingest == nil, "Deliveries": cfg.Deliveries == nil, "Parse": cfg.Parse == nil, "Log": cfg.Log == nil,
	} {
		if missing {
			return nil, errors.New("gateway: Config." + name + " is missing")
		}
	}
	if cfg.Nodes == nil {
		return nil, errors.New("gateway: Config.Nodes is missing")
	}
	if !cfg.Open && len(cfg.Keys) == 0 {
		return nil, errors.New("gateway: no API keys and not open: nobody could call it")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Sweep = cmp.Or(cfg.Sweep, sweepEvery)
	g := &Gateway{cfg: cfg, log: cfg.Log.With("component", "gateway"), metrics: newMetrics(cmp.Or(cfg.Version, "unknown")), spent: newSpent()}
	for _, c := range cfg.Collectors {
		if err := g.metrics.registry.Register(c); err != nil {
			return nil, fmt.Errorf("gateway: register metrics: %w", err)
		}
	}
	g.Feed = newFeed(g.observe, cfg.Now)
	g.router = g.routes()
	return g, nil
}

// observe sees every change; it does not block.
func (g *Gateway) observe(c functions.Change) {
	g.metrics.observe(c)
	g.spend(&c.Task)
}

// Run looks for files whose upload nobody completed, and gives up the parts of
// those that never will be, until ctx ends. It begins at once, so it must not run
// before the projection shows what the log held at the start.
func (g *Gateway) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return g.sweeps(ctx) })
	work.Go(func() error { return g.abortSpent(ctx) })
	return work.Wait()
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.outer(w, r) }
