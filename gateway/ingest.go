package gateway

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/spillway/spillway/functions"
)

// Ingest turns objects of the store into tasks. Backfill tells its progress,
// the last of which is done or has an error; an error that it returns before the
// first telling means that nothing was done.
type Ingest interface {
	Status(ctx context.Context) (functions.IngestStatus, error)
	Backfill(ctx context.Context, ask functions.Backfill, tell func(functions.BackfillProgress) error) error
}

// ingestStatus says how objects become tasks on this server.
func (g *Gateway) ingestStatus(w http.ResponseWriter, r *http.Request) error {
	st, err := g.cfg.Ingest.Status(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, st)
}

// backfill offers old objects to a function for as long as the caller listens,
// and sends a line of JSON for each step.
func (g *Gateway) backfill(w http.ResponseWriter, r *http.Request) error {
	var ask functions.Backfill
	if err := decodeJSON(w, r, &ask); err != nil {
		return err
	}
	var s *stream
	err := g.cfg.Ingest.Backfill(r.Context(), ask, func(p functions.BackfillProgress) error {
		if s == nil { // nothing is refused from here on
			s = newStream(w, "application/x-ndjson")
		}
		line, err := json.Marshal(p)
		if err != nil {
			return err
		}
		return s.write(append(line, '\n'))
	})
	if s != nil && err != nil {
		g.log.Info("backfill ended with its connection", "function", ask.Function, "err", err)
		return nil
	}
	return err
}
