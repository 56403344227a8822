package taskdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/spillway/spillway/functions"
)

// schemaVersion is raised when the tables change in a way that this code, or
// the code before it, cannot read.
const schemaVersion = 1

// schema is the whole file. A task's n is its place in the log (see place), so
// every server numbers it alike and it breaks ties of the creation time.
//
// Four trees are written when a task is accepted: the row, its id, its time, and
// its group, from which listings by function, source and state are merged. The
// other indexes hold only tasks that got that far.
const schema = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (
	n        INTEGER PRIMARY KEY,
	id       BLOB NOT NULL,    -- the UUID's 16 bytes
	function TEXT NOT NULL,
	state    INTEGER NOT NULL, -- see stateCodes
	source   TEXT NOT NULL,
	node     TEXT,             -- of the newest attempt
	device   TEXT,             -- of the newest attempt
	fallback TEXT,
	created  INTEGER NOT NULL, -- Unix milliseconds
	queued   INTEGER NOT NULL, -- Unix microseconds; last entry into the queue
	seq      INTEGER NOT NULL, -- of the last event that changed it
	doc      BLOB NOT NULL     -- the functions.Task as JSON; last, so that filters never read past it
);
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE INDEX tasks_created  ON tasks (created);
CREATE INDEX tasks_group    ON tasks (function, source, state, created);
CREATE INDEX tasks_node     ON tasks (node, created)     WHERE node IS NOT NULL;
CREATE INDEX tasks_device   ON tasks (device, created)   WHERE device IS NOT NULL;
CREATE INDEX tasks_fallback ON tasks (created) WHERE fallback IS NOT NULL;
CREATE TABLE keys (function TEXT NOT NULL, key TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (function, key)) WITHOUT ROWID;
CREATE TABLE counts (function TEXT NOT NULL, source TEXT NOT NULL, state INTEGER NOT NULL, tasks INTEGER NOT NULL,
	PRIMARY KEY (function, source, state)) WITHOUT ROWID;
CREATE TABLE waiting (device TEXT PRIMARY KEY, tasks INTEGER NOT NULL) WITHOUT ROWID;
`

// The keys of the meta table.
const (
	metaSchema  = "schema"
	metaApplied = "applied" // log sequence of the newest event that was folded
	metaIndex   = "index"   // its index in that message
	metaEpoch   = "epoch"
)

// stateCodes are the states as stored; the order is part of the file format.
// Those before firstFinal are not final.
var stateCodes = []functions.State{
	functions.AwaitingUpload, functions.Queued, functions.Assigned, functions.Deciding, functions.Canceling,
	functions.Succeeded, functions.Failed, functions.TimedOut, functions.Canceled, functions.Expired,
}

const firstFinal = 5

// prepare makes the tables in an empty file, and refuses a file that newer code
// wrote.
func prepare(ctx context.Context, w *sql.Conn, path string) error {
	foreign := functions.NewError(functions.ErrInvalid, "taskdb_foreign", "%s is not a task database", path).WithHint("give the server a data folder of its own")
	var tables, ours int
	if err := w.QueryRowContext(ctx, `SELECT COUNT(*), COUNT(CASE WHEN name IN ('meta', 'tasks') THEN 1 END) FROM sqlite_schema WHERE type = 'table'`).Scan(&tables, &ours); err != nil {
		return fmt.Errorf("read schema: %w", translate(err, path))
	}
	switch {
	case tables == 0:
		return create(ctx, w, path)
	case ours != 2:
		return foreign
	}
	var have int64
	switch err := w.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = ?`, metaSchema).Scan(&have); {
	case errors.Is(err, sql.ErrNoRows), err == nil && have < 1:
		return foreign
	case err != nil:
		return fmt.Errorf("read schema version: %w", translate(err, path))
	case have > schemaVersion:
		return functions.NewError(functions.ErrInvalid, "taskdb_newer", "%s was written by a newer Spillway (schema %d, this one reads %d)", path, have, schemaVersion).
			WithHint("run that version, or move the file away: it is rebuilt from the log, if that still holds its first event")
	}
	return nil
}

func create(ctx context.Context, w *sql.Conn, path string) error {
	for _, stmt := range []string{
		"BEGIN IMMEDIATE", schema,
		"INSERT INTO meta (key, value) VALUES ('" + metaSchema + "', " + strconv.Itoa(schemaVersion) + ")",
		"COMMIT",
	} {
		if _, err := w.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("create tables: %w", translate(err, path))
		}
	}
	return nil
}
