package taskdb

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/spillway/spillway/functions"
)

// Config says where the database is.
type Config struct {
	Path       string          // of the file; its folder is made when missing
	CacheBytes functions.Bytes // of unfinished tasks kept decoded; 0 means 32 MiB
	Log        *slog.Logger    // nil discards
}

// DB is an open projection. All methods may be called at once.
type DB struct {
	path string
	log  *slog.Logger
	read *sql.DB

	applied atomic.Uint64
	epoch   atomic.Uint64
	void    atomic.Uint64

	applying sync.Mutex // one batch at a time; guards the fields below it, up to mu
	pool     *sql.DB    // holds the one connection of w
	w        *writer
	index    int // of the newest applied event in its message
	cache    *cache

	mu      sync.Mutex // guards the fields below; never held during I/O
	groups  groups
	waiting waiting
	waiters waiters
}

// Open opens the file, or makes it. A damaged file, or one that newer code
// wrote, is an error that says what to do; nothing is ever deleted here.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Path == "" {
		return nil, functions.Invalid("no_path", "the task database has no path").WithField("path")
	}
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o700); err != nil {
		return nil, fmt.Errorf("make database folder: %w", err)
	}
	db := &DB{
		path: c.Path, log: cmp.Or(c.Log, slog.New(slog.DiscardHandler)),
		cache:  newCache(int64(cmp.Or(c.CacheBytes, 32*functions.MiB))),
		groups: groups{}, waiting: waiting{},
	}
	if err := db.open(ctx); err != nil {
		db.Close()
		return nil, err
	}
	db.log.Info("task database opened", "path", c.Path, "applied", db.Applied(), "epoch", db.Epoch())
	return db, nil
}

func (db *DB) open(ctx context.Context) (err error) {
	touch(db.path)
	if db.pool, err = sql.Open("sqlite", dsn(db.path, writerPragmas)); err != nil {
		return fmt.Errorf("open task database: %w", err)
	}
	db.pool.SetMaxOpenConns(1)
	conn, err := db.pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open task database: %w", translate(err, db.path))
	}
	if err := prepare(ctx, conn, db.path); err != nil {
		return err
	}
	if db.w, err = newWriter(ctx, conn); err != nil {
		return fmt.Errorf("prepare statements: %w", translate(err, db.path))
	}
	if db.read, err = sql.Open("sqlite", dsn(db.path, readerPragmas)); err != nil {
		return fmt.Errorf("open task database: %w", err)
	}
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	return db.load(ctx)
}

// touch makes the file for its owner alone: events, results and keys are in it,
// and the engine would make it for everybody. Its logs get the file's own mode.
// When it cannot be made, the engine says why in a moment.
func touch(path string) {
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err == nil {
		f.Close()
	}
}

// readers is how many reads run at once; each holds its own page cache.
const readers = 6

// NORMAL syncs at checkpoints only. A power cut may thus undo the newest
// batches, whole, and the log gives them again. The writer's cache holds the
// hot ends of the index trees; a checkpoint each 16 MiB instead of each 4 saves
// a third of the writes under load.
var (
	writerPragmas = []string{"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(5000)", "cache_size(-16384)", "wal_autocheckpoint(4000)", "journal_size_limit(67108864)", "temp_store(MEMORY)"}
	readerPragmas = []string{"busy_timeout(5000)", "query_only(1)", "cache_size(-2048)"}
)

func dsn(path string, pragmas []string) string {
	q := url.Values{"_pragma": pragmas}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// load reads what is kept in memory.
func (db *DB) load(ctx context.Context) error {
	meta := map[string]int64{}
	for row, err := range query(ctx, db.read, func(s scanner) (m struct {
		key   string
		value int64
	}, err error) {
		return m, s.Scan(&m.key, &m.value)
	}, `SELECT key, value FROM meta`) {
		if err != nil {
			return fmt.Errorf("read place in the log: %w", translate(err, db.path))
		}
		meta[row.key] = row.value
	}
	db.applied.Store(uint64(meta[metaApplied]))
	db.epoch.Store(uint64(meta[metaEpoch]))
	db.index = int(meta[metaIndex])

	for c, err := range query(ctx, db.read, scanCount, `SELECT function, source, state, tasks FROM counts WHERE tasks <> 0`) {
		if err != nil {
			return fmt.Errorf("read counters: %w", translate(err, db.path))
		}
		db.groups.add(c.group, c.tasks)
	}
	type depth struct {
		device functions.Device
		tasks  int64
	}
	scan := func(s scanner) (d depth, err error) { return d, s.Scan(&d.device, &d.tasks) }
	for d, err := range query(ctx, db.read, scan, `SELECT device, tasks FROM waiting WHERE tasks <> 0`) {
		if err != nil {
			return fmt.Errorf("read queue lengths: %w", translate(err, db.path))
		}
		db.waiting[d.device] = d.tasks
	}
	return nil
}

// Close ends all reads and closes the file. Apply must not run any more.
func (db *DB) Close() {
	if db.read != nil {
		db.read.Close()
	}
	if db.w != nil {
		db.w.conn.Close()
	}
	if db.pool != nil {
		db.pool.Close() // the last connection folds the write-ahead log into the file
	}
}

// Applied is the log sequence up to which all events have been folded.
func (db *DB) Applied() uint64 { return db.applied.Load() }

// Epoch is the log sequence of the newest leader event that was applied.
func (db *DB) Epoch() uint64 { return db.epoch.Load() }

// VoidEvents is how many events have failed their guard since Open.
func (db *DB) VoidEvents() uint64 { return db.void.Load() }
