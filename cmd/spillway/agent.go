package main

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
)

// runNode runs this machine as a node until ctx ends. All its connections go
// out: to the engine and to the store.
func runNode(ctx context.Context, cfg Config, out, errOut io.Writer) error {
	log, err := newLogger(errOut, cfg.LogLevel)
	if err != nil {
		return err
	}
	release, err := openData(cfg.Data)
	if err != nil {
		return err
	}
	defer release()
	engine, closeEngine, err := openEngine(ctx, cfg, secrets{}, log)
	if err != nil {
		return err
	}
	defer closeEngine()
	store, err := openStore(addressOf(cfg.Store, secrets{}), cfg.Store.Region)
	if err != nil {
		return err
	}
	deployed, err := engine.Registry(ctx)
	if err != nil {
		return err
	}
	n, err := newNode(cfg, engine, store, deployed, nil, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "spillway node %s is connected to %s\n", cfg.Node.ID, cfg.Engine.URL)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return deployed.Run(ctx) })
	work.Go(func() error { return n.Run(ctx) })
	work.Go(func() error { return engine.ServeNode(ctx, functions.NodeID(cfg.Node.ID), n) })
	return work.Wait()
}
