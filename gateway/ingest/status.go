package ingest

import (
	"context"

	"github.com/spillway/spillway/functions"
)

// Status says how objects became tasks on this server since it started, and how
// far the listings of all servers have come.
func (in *Ingest) Status(ctx context.Context) (functions.IngestStatus, error) {
	st := in.figures.status()
	st.MaxDepth = in.MaxDepth
	for _, f := range in.Functions.List() {
		if len(f.Triggers) == 0 {
			continue
		}
		mark, err := in.Marks.Mark(ctx, f.Name)
		if err != nil {
			return functions.IngestStatus{}, err
		}
		st.Functions = append(st.Functions, functions.IngestFunction{Name: f.Name, Mark: mark, Held: in.figures.heldBy(f.Name)})
	}
	return st, nil
}
