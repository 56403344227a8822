package ingest

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// Functions is the registry.
type Functions interface {
	List() []functions.Function
	Version(name functions.Name, version int) (functions.Function, error)
}

// Objects is the store.
type Objects interface {
	Stat(ctx context.Context, bucket, key, version string) (functions.ObjectRef, error)
	GetRange(ctx context.Context, ref functions.ObjectRef, off, length int64) (io.ReadCloser, error)
	ListSince(ctx context.Context, bucket, prefix string, since time.Time) iter.Seq2[functions.ObjectRef, error]
}

// Door accepts tasks; a key that it knows returns the task that it started.
// Arrived starts one whose awaited file is there.
type Door interface {
	Accept(ctx context.Context, call intake.Call) (intake.Ticket, error)
	Arrived(ctx context.Context, t functions.Task, by string) (functions.Task, error)
}

// Tasks is what is known of tasks. It may lag behind the log.
type Tasks interface {
	Task(ctx context.Context, id functions.TaskID) (functions.Task, error)
	ByKey(ctx context.Context, fn functions.Name, key string) (functions.TaskID, bool, error)
}

// Config is what an Ingest works with.
type Config struct {
	Functions Functions
	Objects   Objects
	Door      Door
	Tasks     Tasks

	Uploads string // bucket of awaited uploads; empty = "uploads"
	Results string // bucket whose objects never start anything; empty = "results"
	Region  string // named in events; empty = us-east-1

	Every  time.Duration // between listings; 0 = one minute
	Window time.Duration // how old an object may be to be found by listing; 0 = one day; under the log's memory

	// Recovered is told how many starts a listing had to make up for, because
	// every hint was lost; nil = nobody is told.
	Recovered func(n int)

	Now    func() time.Time // nil = time.Now
	Logger *slog.Logger     // nil = silent
}

// Hint says that an object may be new.
type Hint struct {
	Bucket    string
	Key       string
	VersionID string // empty = the newest
}

// Ingest makes tasks of objects. It is safe for use from many goroutines.
type Ingest struct {
	Config

	mu      sync.Mutex          // guards refused
	refused map[string]struct{} // identity and function version that do not match by content type
}

// New returns an Ingest. It starts nothing.
func New(c Config) *Ingest {
	if c.Uploads == "" {
		c.Uploads = intake.Bucket
	}
	if c.Results == "" {
		c.Results = "results"
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Every == 0 {
		c.Every = time.Minute
	}
	if c.Window == 0 {
		c.Window = 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Recovered == nil {
		c.Recovered = func(int) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Ingest{Config: c, refused: make(map[string]struct{})}
}

// Created is Offer in the shape in which the embedded store reports.
func (in *Ingest) Created(ctx context.Context, bucket, key, _, versionID string) error {
	return in.Offer(ctx, Hint{Bucket: bucket, Key: key, VersionID: versionID})
}
