// Package webhooks tells those who asked for it that a task has ended.
//
// The leader calls the URL of each end until it answers with 2xx, asks not to be
// called (410), or all tries are used. An end is told at least once, under the same
// webhook-id every time: see package ends. Messages are signed as
// https://www.standardwebhooks.com says.
package webhooks

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/ends"
)

// Poster calls URLs.
type Poster interface {
	Post(ctx context.Context, url string, header http.Header, body []byte) (status int, pause time.Duration, err error)
}

// Config is what a Webhooks works with.
type Config struct {
	Log    ends.Log
	Gap    error // what Log.Tail fails with when the log does not reach back that far
	Tasks  ends.Tasks
	Outbox ends.Outbox
	Poster Poster
	Secret Secret
	Render func(ctx context.Context, t *functions.Task) (json.RawMessage, error) // the task as the API shows it
	Now    func() time.Time                                                      // nil means time.Now
	Logger *slog.Logger
}

// Webhooks is safe for use by many goroutines. Its Run is for the leader alone.
type Webhooks struct {
	*ends.Teller
	cfg     Config
	figures figures
}

// New returns a Webhooks that does nothing until Run.
func New(cfg Config) *Webhooks {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	w := &Webhooks{cfg: cfg, figures: newFigures()}
	w.Teller = ends.New(ends.Config{
		What: "webhooks", Log: cfg.Log, Gap: cfg.Gap, Tasks: cfg.Tasks, Outbox: cfg.Outbox, Wants: wants, Try: w.try, Now: cfg.Now, Logger: cfg.Logger,
	})
	return w
}

func wants(t *functions.Task) (functions.Delivery, bool) {
	return functions.Delivery{URL: t.Webhook}, t.Webhook != ""
}

// Collectors are the package's metrics.
func (w *Webhooks) Collectors() []prometheus.Collector { return w.figures.all() }
