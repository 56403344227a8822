package main

import (
	"context"
	"fmt"

	"github.com/spillway/spillway/functions/tasklog"
	"github.com/spillway/spillway/gateway/chain"
	"github.com/spillway/spillway/gateway/intake"
)

// buildChain makes what hands the records of ends to their destinations.
func (s *server) buildChain(ctx context.Context, door *intake.Door) error {
	outbox, err := s.engine.Chains(ctx)
	if err != nil {
		return fmt.Errorf("open the records for destinations: %w", err)
	}
	s.chain = chain.New(chain.Config{
		Log: s.engine, Gap: tasklog.ErrGap, Tasks: s.tasks, Outbox: outbox, Door: door, Objects: s.store,
		MaxDepth: s.cfg.Ingest.MaxDepth, Logger: s.log,
	})
	return nil
}
