package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/embedded"
	"github.com/spillway/spillway/runtime/node"
)

// storeAddress is where the store is and who may use it.
type storeAddress struct {
	endpoint, public string
	access, secret   string
	embedded         bool
}

func addressOf(cfg StoreConfig, s secrets) storeAddress {
	if cfg.Endpoint == "" {
		return storeAddress{endpoint: "http://" + cfg.Listen, public: cfg.Public, access: s.StoreAccess, secret: s.StoreSecret, embedded: true}
	}
	return storeAddress{endpoint: cfg.Endpoint, public: cfg.Public, access: cfg.AccessKey, secret: cfg.SecretKey}
}

func openStore(a storeAddress, region string) (*objects.Store, error) {
	return objects.New(objects.Config{
		Endpoint: a.endpoint, PublicEndpoint: a.public, AccessKey: a.access, SecretKey: a.secret, Region: region, Embedded: a.embedded,
	})
}

// localStore gives a node in this process the embedded store's files; nil when
// the store is elsewhere.
func localStore(cfg Config) node.Local {
	if cfg.Store.Endpoint != "" {
		return nil
	}
	return &embedded.Local{Root: storeRoot(cfg)}
}

func storeRoot(cfg Config) string { return filepath.Join(cfg.Data, "store") }

// runEmbeddedStore serves the embedded store until ctx ends. created hears of
// every object once it is durable; ready is closed when the store listens.
func runEmbeddedStore(ctx context.Context, cfg Config, s secrets, created func(ctx context.Context, bucket, key, etag, version string) error, ready chan<- struct{}, log *slog.Logger) error {
	return embedded.Run(ctx, embedded.Config{
		Root: storeRoot(cfg), Addr: cfg.Store.Listen,
		AccessKey: s.StoreAccess, SecretKey: s.StoreSecret, Region: cfg.Store.Region,
		PublicOrigin: publicURL(cfg), Created: created, Ready: ready, Log: log,
	})
}

// publicURL is what clients call the gateway; pages from there may upload.
func publicURL(cfg Config) string {
	if cfg.PublicURL != "" {
		return cfg.PublicURL
	}
	return "http://" + cfg.Listen
}

// storePatience is how long a start waits for an external store, which may be
// starting at the same time.
const storePatience = 30 * time.Second

// prepareStore waits for the store and makes our buckets.
func prepareStore(ctx context.Context, st *objects.Store, log *slog.Logger) error {
	ctx, cancel := context.WithTimeoutCause(ctx, storePatience, errors.New("the object store did not answer in time"))
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := st.Ready(ctx)
		for _, bucket := range []string{objects.Uploads, objects.Results} {
			if err == nil {
				err = st.EnsureBucket(ctx, bucket)
			}
		}
		if err == nil {
			return nil
		}
		log.Debug("object store not ready", "err", err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("reach the object store: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}
