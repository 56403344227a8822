package taskdb

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/spillway/spillway/functions"
)

// ErrGap says that the log continues further on than this database has read:
// records between are missing. Nothing of the batch was applied.
var ErrGap = errors.New("gap in the task log")

func gap(appliedSeq uint64, appliedIndex int, r functions.Record) error {
	e := functions.Unavailable("log_gap", "the task log continues at %d/%d, but this projection has read up to %d/%d", r.Seq, r.Index, appliedSeq, appliedIndex).
		WithHint("copy the task database of another server, or restore the log from its backup")
	return e.WithCause(ErrGap)
}

// translate gives an SQLite error the class and the hint that a person needs.
func translate(err error, path string) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff { // the low byte is the primary code
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return functions.Unavailable("taskdb_corrupt", "the task database %s is damaged", path).WithCause(err).
			WithHint("stop the server, move %s and its -wal and -shm files away, and start again: it is rebuilt from the log, if that still holds its first event; else copy the database of another server", path)
	case sqlite3.SQLITE_FULL:
		return functions.Unavailable("disk_full", "no room left for the task database %s", path).WithCause(err).WithHint("free some disk space")
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY:
		return functions.Unavailable("taskdb_unwritable", "the task database %s cannot be opened for writing", path).WithCause(err).
			WithHint("check the folder's owner and mode")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return functions.Unavailable("taskdb_busy", "another process writes the task database %s", path).WithCause(err).WithHint("run one server per data folder")
	}
	return fmt.Errorf("task database: %w", err)
}

// duplicate reports whether a unique index refused a row.
func duplicate(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
}
