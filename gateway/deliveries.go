package gateway

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/spillway/spillway/functions"
)

// Deliveries shows what came of telling webhooks.
type Deliveries interface {
	Of(ctx context.Context, task functions.TaskID) ([]functions.Delivery, error)
}

// Render is a task as GET /v1/tasks/{id} shows it: what webhooks are told.
func (g *Gateway) Render(ctx context.Context, t *functions.Task) (json.RawMessage, error) {
	v, err := g.full(ctx, t)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// deliveries answers with the calls of a task's webhook.
func (g *Gateway) deliveries(w http.ResponseWriter, r *http.Request) error {
	t, err := g.taskOf(r.Context(), r)
	if err != nil {
		return err
	}
	list, err := g.cfg.Deliveries.Of(r.Context(), t.ID)
	if err != nil {
		return err
	}
	if list == nil {
		list = []functions.Delivery{}
	}
	return writeJSON(w, http.StatusOK, struct {
		Deliveries []functions.Delivery `json:"deliveries"`
	}{list})
}
