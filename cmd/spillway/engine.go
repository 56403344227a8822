package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/taskdb"
	"github.com/spillway/spillway/functions/tasklog"
)

// openEngine connects to the log: the embedded one, or the one at a URL. Close
// what it returns after everything that uses it has ended.
func openEngine(ctx context.Context, cfg Config, s secrets, log *slog.Logger) (*tasklog.Log, func(), error) {
	if cfg.Engine.URL != "" {
		l, err := tasklog.Open(ctx, tasklog.Config{URL: cfg.Engine.URL, Token: cfg.Engine.Token, Name: cfg.Node.ID, Log: log})
		if err != nil {
			return nil, nil, fmt.Errorf("connect to the engine at %s: %w", cfg.Engine.URL, err)
		}
		return l, l.Close, nil
	}
	token := cfg.Engine.Token
	if token == "" {
		token = s.EngineToken
	}
	srv, err := tasklog.StartServer(ctx, tasklog.ServerConfig{Dir: filepath.Join(cfg.Data, "engine"), Listen: cfg.Engine.Listen, Token: token, Log: log})
	if err != nil {
		return nil, nil, fmt.Errorf("start the engine: %w", err)
	}
	l, err := tasklog.Open(ctx, tasklog.Config{Server: srv, Name: cfg.Node.ID, Log: log})
	if err != nil {
		srv.Shutdown()
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	return l, func() { l.Close(); srv.Shutdown() }, nil
}

// project folds the log into the database for as long as ctx lasts, and hands
// every change on. It is the one place where the log becomes state.
func project(ctx context.Context, l *tasklog.Log, db *taskdb.DB, publish ...func([]functions.Change)) error {
	return l.Tail(ctx, db.Applied(), func(ctx context.Context, records []functions.Record) error {
		changes, err := db.Apply(ctx, records)
		if err != nil {
			return fmt.Errorf("apply the log: %w", err)
		}
		for _, p := range publish {
			p(changes)
		}
		return nil
	})
}

// fsyncWarn is the p99 of a small synced write above which the log, which syncs
// every message, becomes the bottleneck that users notice.
const fsyncWarn = 20 * time.Millisecond

// measureSync times a few synced writes in the data folder, and warns when the
// disk is too slow for a log that syncs each message.
func measureSync(dir string, log *slog.Logger) (err error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return fmt.Errorf("probe the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 4096)
	var worst time.Duration
	for range 8 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return fmt.Errorf("probe the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("probe the disk: %w", err)
		}
		worst = max(worst, time.Since(start))
	}
	if worst > fsyncWarn {
		log.Warn("slow disk under the data folder: every accepted task waits for a synced write", "sync", worst, "dir", dir)
	}
	return nil
}
