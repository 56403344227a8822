package taskdb

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spillway/spillway/functions"
)

func unknown(id functions.TaskID) error {
	return functions.NotFound("task_not_found", "there is no task %.40s", id)
}

// Task returns one task, or an ErrNotFound error.
func (db *DB) Task(ctx context.Context, id functions.TaskID) (functions.Task, error) {
	b, ok := idBytes(id)
	if !ok { // no task can have it
		return functions.Task{}, unknown(id)
	}
	for t, err := range query(ctx, db.read, scanTask, `SELECT doc FROM tasks WHERE id = ?`, b) {
		if err != nil {
			return functions.Task{}, fmt.Errorf("read task: %w", translate(err, db.path))
		}
		return t, nil
	}
	return functions.Task{}, unknown(id)
}

// Find returns the one task whose id begins with prefix. Several are an
// ErrConflict error that names some, none is an ErrNotFound error.
func (db *DB) Find(ctx context.Context, prefix string) (functions.Task, error) {
	const shown = 5
	lo, hi, err := idRange(prefix)
	if err != nil {
		return functions.Task{}, err
	}
	var found []functions.Task
	for t, err := range query(ctx, db.read, scanTask, `SELECT doc FROM tasks WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?`, lo, hi, shown+1) {
		if err != nil {
			return functions.Task{}, fmt.Errorf("find task: %w", translate(err, db.path))
		}
		found = append(found, t)
	}
	switch {
	case len(found) == 0:
		return functions.Task{}, unknown(functions.TaskID(prefix))
	case len(found) == 1:
		return found[0], nil
	}
	names := make([]string, 0, shown+1)
	for _, t := range found[:min(shown, len(found))] {
		names = append(names, string(t.ID))
	}
	if len(found) > shown {
		names = append(names, "and more")
	}
	return functions.Task{}, functions.Conflict("ambiguous_task_id", "several task ids begin with %s: %s", prefix, strings.Join(names, ", ")).
		WithHint("write more of the id")
}

// idRange returns the first and the last id that begin with a prefix of a
// UUID's text.
func idRange(prefix string) (lo, hi []byte, err error) {
	bad := functions.Invalid("bad_task_id", "%.40q is not the beginning of a task id", prefix).WithHint("use the first hexadecimal digits of the id")
	if prefix == "" || len(prefix) > 36 {
		return nil, nil, bad
	}
	for i, r := range prefix {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (r == '-') {
			return nil, nil, bad
		}
	}
	digits := strings.ReplaceAll(strings.ToLower(prefix), "-", "")
	pad := 32 - len(digits)
	if lo, err = hex.DecodeString(digits + strings.Repeat("0", pad)); err != nil {
		return nil, nil, bad
	}
	hi, err = hex.DecodeString(digits + strings.Repeat("f", pad))
	return lo, hi, err
}

// ByKey returns the task that an idempotency key of a function was used for.
func (db *DB) ByKey(ctx context.Context, fn functions.Name, key string) (functions.TaskID, bool, error) {
	scan := func(s scanner) (b []byte, err error) { return b, s.Scan(&b) }
	for b, err := range query(ctx, db.read, scan, `SELECT id FROM keys WHERE function = ? AND key = ?`, string(fn), key) {
		if err != nil {
			return "", false, fmt.Errorf("read idempotency key: %w", translate(err, db.path))
		}
		return idText(b), true, nil
	}
	return "", false, nil
}
