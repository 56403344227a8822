package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/tasklog"
	"github.com/spillway/spillway/functions/webfetch"
	"github.com/spillway/spillway/gateway/webhooks"
)

// buildWebhooks makes what tells of ends, and returns what keeps its deliveries.
func (s *server) buildWebhooks(ctx context.Context, web *webfetch.Client) (*tasklog.Deliveries, error) {
	deliveries, err := s.engine.Deliveries(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the webhook deliveries: %w", err)
	}
	secret, err := webhooks.ParseSecret(cmp.Or(s.cfg.WebhookSecret, s.secrets.WebhookSecret))
	if err != nil {
		return nil, err
	}
	s.webhooks = webhooks.New(webhooks.Config{
		Log: s.engine, Gap: tasklog.ErrGap, Tasks: s.tasks, Outbox: deliveries, Poster: web, Secret: secret, Logger: s.log,
		Render: func(ctx context.Context, t *functions.Task) (json.RawMessage, error) { return s.gateway.Render(ctx, t) },
	})
	return deliveries, nil
}
