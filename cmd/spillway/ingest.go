package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway"
	"github.com/spillway/spillway/gateway/ingest"
	"github.com/spillway/spillway/gateway/ingest/sqs"
	"github.com/spillway/spillway/gateway/intake"
)

// buildIngest makes what turns stored objects into tasks, and the queues that it
// reads.
func (s *server) buildIngest(ctx context.Context, door *intake.Door) error {
	marks, err := s.engine.Marks(ctx)
	if err != nil {
		return fmt.Errorf("open the marks of listings: %w", err)
	}
	settings, err := s.engine.LambdaSettings(ctx)
	if err != nil {
		return err
	}
	s.ingest = ingest.New(ingest.Config{
		Functions: s.functions, Objects: s.store, Door: door, Tasks: s.tasks, Marks: marks,
		Region: s.cfg.Store.Region, Every: s.cfg.Reconcile, Overlap: s.cfg.Ingest.Overlap, MaxDepth: s.cfg.Ingest.MaxDepth, Logger: s.log,
	})
	s.deployer = &deployer{Registry: s.functions, store: s.store, ingest: s.ingest, marks: marks, settings: settings, targets: s.cfg.Store.WebhookARNs}
	for _, url := range s.cfg.Ingest.SQSURLs {
		q, err := sqs.New(sqs.Config{
			URL: url, Region: s.cfg.Ingest.SQSRegion, Endpoint: s.cfg.Ingest.SQSEndpoint, Logger: s.log,
			Take:    func(ctx context.Context, body []byte) error { return s.ingest.Message(ctx, ingest.SQS, body) },
			Trouble: func(err error) { s.ingest.Trouble(ingest.SQS, err) },
		})
		if err != nil {
			return err
		}
		s.queues = append(s.queues, q)
	}
	return nil
}

// ingestLoops are what must run for objects to become tasks.
func (s *server) ingestLoops() (loops []func(context.Context) error) {
	loops = append(loops, s.ingest.Run)
	for _, q := range s.queues {
		loops = append(loops, q.Run)
	}
	if targets := s.cfg.Store.WebhookARNs; len(targets) > 0 {
		loops = append(loops, func(ctx context.Context) error { return s.ingest.Subscribe(ctx, s.store, targets) })
	}
	return loops
}

// hooks mounts what stores call; the handlers check their callers themselves.
func (s *server) hooks() gateway.Mount {
	token := s.cfg.Store.WebhookToken
	if token == "" {
		token = s.secrets.WebhookToken
	}
	return func(register func(method, path string, h http.HandlerFunc)) {
		for path, from := range map[string]ingest.Source{"": ingest.Webhook, "/fast": ingest.WebhookFast, "/durable": ingest.WebhookDurable} {
			register(http.MethodPost, "/internal/s3-events"+path, ingest.NewHook(s.ingest, from, token).ServeHTTP)
		}
	}
}

// publishers hear every change that the log makes.
func (s *server) publishers() []func([]functions.Change) {
	return []func([]functions.Change){s.gateway.Feed.Publish, s.scheduler.Notify, s.ingest.Changed, s.webhooks.Changed, s.chain.Changed}
}
