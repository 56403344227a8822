package ingest

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// Functions is the registry.
type Functions interface {
	List() []functions.Function
	Versions(name functions.Name) []functions.Function // oldest first
}

// Objects is the store. Head looks at an object, which may be expected to be so
// large, and reads its first bytes.
type Objects interface {
	Head(ctx context.Context, bucket, key, version string, expect, most int64) (ref functions.ObjectRef, head []byte, err error)
	ListSince(ctx context.Context, bucket, prefix string, since time.Time) iter.Seq2[functions.Listed, error]
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

// Marks keep how far the listings have come, durably and for all servers.
type Marks interface {
	Mark(ctx context.Context, fn functions.Name) (functions.Mark, error) // zero when it has none
	Move(ctx context.Context, fn functions.Name, mark functions.Mark) error
}

// Config is what an Ingest works with.
type Config struct {
	Functions Functions
	Objects   Objects
	Door      Door
	Tasks     Tasks
	Marks     Marks

	Uploads string // bucket of awaited uploads; empty = "uploads"
	Results string // bucket of outputs; empty = "results"
	Region  string // named in events; empty = us-east-1

	Every    time.Duration // between listings, which take at most a tenth of the time; 0 = one minute
	Overlap  time.Duration // of listings: what clocks may differ by, and how late an object may show; 0 = 10 minutes
	MaxDepth int           // tasks in line, each started by the output of the one before; 0 = 8

	Now    func() time.Time // nil = time.Now
	Logger *slog.Logger     // nil = silent
}

// Source is how a hint came.
type Source string

const (
	Outbox         Source = "outbox" // of the embedded store
	Webhook        Source = "webhook"
	WebhookFast    Source = "webhook:fast"
	WebhookDurable Source = "webhook:durable"
	SQS            Source = "sqs"
	Outputs        Source = "outputs" // of tasks that succeeded
	Listing        Source = "listing"
	Filling        Source = "backfill"
)

// Hint says that an object may be new.
type Hint struct {
	Bucket    string
	Key       string
	VersionID string // empty = the newest
	ETag      string // as the report says, which proves nothing; empty = it does not say
	Size      int64  // the same
	Source    Source // empty = webhook
}

// Ingest makes tasks of objects. It is safe for use from many goroutines.
type Ingest struct {
	Config

	figures *figures
	ended   chan functions.TaskID // succeeded with outputs; Run offers them
	backlog *backlog              // of Later; Run offers it
	flights singleflight.Group    // by what hints say that the object is
	wake    chan struct{}         // for Subscribe: functions have changed

	mu      sync.Mutex          // guards refused
	refused map[string]struct{} // identity and function version that can never start
}

// manyEnded is how many succeeded tasks may wait for their outputs to be
// offered. Listing finds those of the others.
const manyEnded = 4096

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
	if c.Overlap == 0 {
		c.Overlap = 10 * time.Minute
	}
	if c.MaxDepth == 0 {
		c.MaxDepth = 8
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Ingest{
		Config:  c,
		figures: newFigures(c.Now),
		ended:   make(chan functions.TaskID, manyEnded),
		backlog: newBacklog(),
		wake:    make(chan struct{}, 1),
		refused: make(map[string]struct{}),
	}
}

// Created is Offer in the shape in which the embedded store reports.
func (in *Ingest) Created(ctx context.Context, bucket, key, _, versionID string) error {
	return in.Offer(ctx, Hint{Bucket: bucket, Key: key, VersionID: versionID, Source: Outbox})
}
