package taskdb

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spillway/spillway/functions"
)

// List returns one page of the tasks that a query selects, newest first by
// creation time; tasks of one millisecond come in reverse log order, and those
// selected by id prefix in reverse id order, which is by time as well. Since
// and Until count in whole milliseconds.
//
// A page is read from the index of the rarest filter and stops as soon as it is
// full, so that its cost does not grow with the number of tasks. Only filters
// that are common each but rare together make it look at many rows.
func (db *DB) List(ctx context.Context, q functions.TaskQuery) (functions.TaskPage, error) {
	if q.Limit < 0 || q.Limit > 1000 {
		return functions.TaskPage{}, functions.Invalid("bad_limit", "%d is out of range 1 to 1000", q.Limit).WithField("limit")
	}
	for _, s := range q.States {
		if !slices.Contains(stateCodes, s) {
			return functions.TaskPage{}, functions.Invalid("bad_state", "%.40q is not a state", s).WithField("state").WithHint("use one of %v", functions.States)
		}
	}
	from, err := parseCursor(q.Cursor, q.IDPrefix != "")
	if err != nil {
		return functions.TaskPage{}, err
	}
	limit := cmp.Or(q.Limit, 50)
	paths, where, err := db.plan(q)
	if err != nil {
		return functions.TaskPage{}, err
	}
	order := byTime
	if q.IDPrefix != "" {
		order = byID
	}
	if from != nil {
		where.add(order.after, order.key(*from)...)
	}
	rows, err := db.walk(ctx, paths, where, order, limit+1)
	if err != nil {
		return functions.TaskPage{}, fmt.Errorf("list tasks: %w", translate(err, db.path))
	}
	page := functions.TaskPage{Tasks: make([]functions.Task, 0, min(limit, len(rows)))}
	for _, r := range rows[:min(limit, len(rows))] {
		t, err := decode(r.doc)
		if err != nil {
			return functions.TaskPage{}, fmt.Errorf("list tasks: %w", err)
		}
		page.Tasks = append(page.Tasks, t)
	}
	if len(rows) > limit {
		last := rows[limit-1].cursor
		if q.IDPrefix == "" {
			last.id = nil
		}
		page.Next = last.String()
	}
	return page, nil
}

// ordering is a way to walk the table, newest first.
type ordering struct {
	by, after string
	key       func(cursor) []any
	compare   func(a, b row) int
}

var (
	byTime = ordering{
		"created DESC, n DESC", "(created, n) < (?, ?)", func(c cursor) []any { return []any{c.created, c.n} },
		func(a, b row) int { return cmp.Or(cmp.Compare(b.created, a.created), cmp.Compare(b.n, a.n)) },
	}
	byID = ordering{
		"id DESC", "id < ?", func(c cursor) []any { return []any{c.id} },
		func(a, b row) int { return bytes.Compare(b.id, a.id) },
	}
)

// row is one selected task, its document not decoded yet.
type row struct {
	cursor
	doc []byte
}

// clause is a part of a WHERE with its arguments.
type clause struct {
	text []string
	args []any
}

func (c *clause) add(text string, args ...any) {
	c.text = append(c.text, text)
	c.args = append(c.args, args...)
}

// path is one walk along an index in the page's order.
type path struct {
	index string
	clause
}

func along(index, text string, args ...any) path {
	p := path{index: index}
	p.add(text, args...)
	return p
}

// plan chooses the walks that together see every selected task, and the
// conditions that all of them check.
func (db *DB) plan(q functions.TaskQuery) (paths []path, where clause, err error) {
	if !q.Since.IsZero() {
		where.add("created >= ?", q.Since.UnixMilli())
	}
	if !q.Until.IsZero() {
		where.add("created < ?", q.Until.UnixMilli())
	}
	if q.Function != "" {
		where.add("function = ?", string(q.Function))
	}
	if len(q.States) > 0 {
		codes := make([]any, len(q.States))
		for i, s := range q.States {
			codes[i] = slices.Index(stateCodes, s)
		}
		where.add("state IN ("+strings.TrimSuffix(strings.Repeat("?,", len(codes)), ",")+")", codes...)
	}
	if q.Source != "" {
		where.add("source = ?", q.Source)
	}
	if q.Node != "" {
		where.add("node = ?", string(q.Node))
	}
	if q.Device != "" {
		where.add("device = ?", string(q.Device))
	}
	switch q.Fallback {
	case "":
	case "any":
		where.add("fallback IS NOT NULL")
	default:
		where.add("fallback = ?", string(q.Fallback))
	}
	if q.IDPrefix != "" {
		lo, hi, err := idRange(q.IDPrefix)
		return []path{along("tasks_id", "id BETWEEN ? AND ?", lo, hi)}, where, err
	}
	return db.paths(q), where, nil
}

// A walk that must look at up to few rows, or start in up to manyGroups places,
// takes about 10 ms.
const (
	few        = 3000
	manyGroups = 1000
)

// paths takes the groups when they are exact or small, else the index of the
// rarest filter.
func (db *DB) paths(q functions.TaskQuery) []path {
	var byGroup []path
	var rows int64
	db.mu.Lock()
	for g, n := range db.groups {
		if (q.Function == "" || g.function == q.Function) && (q.Source == "" || g.source == q.Source) &&
			(len(q.States) == 0 || slices.Contains(q.States, g.state)) {
			rows += n
			byGroup = append(byGroup, along("tasks_group", "function = ? AND source = ? AND state = ?",
				string(g.function), g.source, slices.Index(stateCodes, g.state)))
		}
	}
	db.mu.Unlock()
	grouped := q.Function != "" || q.Source != "" || len(q.States) > 0
	switch {
	case grouped && rows <= few:
		return byGroup
	case q.Fallback != "":
		return []path{along("tasks_fallback", "fallback IS NOT NULL")}
	case q.Node != "":
		return []path{along("tasks_node", "node = ?", string(q.Node))}
	case q.Device != "":
		return []path{along("tasks_device", "device = ?", string(q.Device))}
	case grouped && len(byGroup) <= manyGroups:
		return byGroup
	}
	return []path{along("tasks_created", "TRUE")}
}

// terms is how many walks one SELECT unites; SQLite's own limit is 500.
const terms = 64

// walk follows each path up to limit rows and merges what they found. Up to
// terms paths are read at one moment; more may be a batch apart.
func (db *DB) walk(ctx context.Context, paths []path, where clause, o ordering, limit int) ([]row, error) {
	scan := func(s scanner) (r row, err error) { return r, s.Scan(&r.created, &r.n, &r.id, &r.doc) }
	var found []row
	for part := range slices.Chunk(paths, terms) {
		var text strings.Builder
		var args []any
		text.WriteString("SELECT created, n, id, (SELECT doc FROM tasks WHERE n = page.n) FROM (")
		for i, p := range part {
			if i > 0 {
				text.WriteString(" UNION ALL ")
			}
			fmt.Fprintf(&text, "SELECT * FROM (SELECT created, n, id FROM tasks INDEXED BY %s WHERE %s ORDER BY %s LIMIT ?)",
				p.index, strings.Join(append(slices.Clone(p.text), where.text...), " AND "), o.by)
			args = append(append(append(args, p.args...), where.args...), limit)
		}
		fmt.Fprintf(&text, " ORDER BY %s LIMIT ?) AS page", o.by)
		for r, err := range query(ctx, db.read, scan, text.String(), append(args, limit)...) {
			if err != nil {
				return nil, err
			}
			found = append(found, r)
		}
		slices.SortFunc(found, o.compare)
		found = found[:min(limit, len(found))]
	}
	return found, nil
}
