package taskdb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/spillway/spillway/functions"
)

// writer is the one connection that writes, with its statements.
type writer struct {
	conn *sql.Conn

	findTasks, findKeys  rowSet
	addTasks, addKeys    rowSet
	setAll, setState     *sql.Stmt
	setCount, setWaiting *sql.Stmt
	setMeta              *sql.Stmt
	begin, end, rollback *sql.Stmt
}

func newWriter(ctx context.Context, conn *sql.Conn) (w *writer, err error) {
	prep := func(text string) *sql.Stmt {
		if err != nil {
			return nil
		}
		var s *sql.Stmt
		s, err = conn.PrepareContext(ctx, text)
		return s
	}
	set := func(head, row, tail string) rowSet {
		const rows = 32
		return rowSet{
			rows: rows, width: strings.Count(row, "?"),
			one:  prep(head + row + tail),
			many: prep(head + strings.Repeat(row+",", rows-1) + row + tail),
		}
	}
	w = &writer{
		conn:      conn,
		findTasks: set(`SELECT n, doc FROM tasks WHERE id IN (`, `?`, `)`),
		findKeys:  set(`SELECT function, key, id FROM keys WHERE (function, key) IN (VALUES `, `(?,?)`, `)`),
		addTasks:  set(`INSERT INTO tasks (n, id, function, state, source, node, device, fallback, created, queued, seq, doc) VALUES `, `(?,?,?,?,?,?,?,?,?,?,?,?)`, ``),
		addKeys:   set(`INSERT INTO keys (function, key, id) VALUES `, `(?,?,?)`, ``),
		setAll:    prep(`UPDATE tasks SET state = ?, seq = ?, doc = ?, node = ?, device = ?, fallback = ?, queued = ? WHERE n = ?`),
		setState:  prep(`UPDATE tasks SET state = ?, seq = ?, doc = ? WHERE n = ?`),
		setCount: prep(`INSERT INTO counts (function, source, state, tasks) VALUES (?,?,?,?)
			ON CONFLICT DO UPDATE SET tasks = tasks + excluded.tasks`),
		setWaiting: prep(`INSERT INTO waiting (device, tasks) VALUES (?,?) ON CONFLICT DO UPDATE SET tasks = tasks + excluded.tasks`),
		setMeta:    prep(`INSERT OR REPLACE INTO meta (key, value) VALUES ('` + metaApplied + `',?), ('` + metaIndex + `',?), ('` + metaEpoch + `',?)`),
		begin:      prep(`BEGIN IMMEDIATE`),
		end:        prep(`COMMIT`),
		rollback:   prep(`ROLLBACK`),
	}
	return w, err
}

// commit writes the batch in one transaction and returns the sizes of the
// documents of b.dirty.
func (w *writer) commit(ctx context.Context, b *batch) (sizes []int, err error) {
	if _, err := w.begin.ExecContext(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.rollback.ExecContext(ctx) // the first error is the one to tell
		}
	}()
	if sizes, err = w.putTasks(ctx, b); err != nil {
		return nil, err
	}
	var keys []any
	for _, k := range b.newKeys {
		id, _ := idBytes(b.keys[k])
		keys = append(keys, string(k.function), k.key, id)
	}
	if err := w.addKeys.exec(ctx, keys); err != nil {
		return nil, err
	}
	for g, n := range b.groups {
		if _, err := w.setCount.ExecContext(ctx, string(g.function), g.source, slices.Index(stateCodes, g.state), n); err != nil {
			return nil, err
		}
	}
	for d, n := range b.waiting {
		if _, err := w.setWaiting.ExecContext(ctx, string(d), n); err != nil {
			return nil, err
		}
	}
	if _, err := w.setMeta.ExecContext(ctx, int64(b.seq), b.index, int64(b.epoch)); err != nil {
		return nil, err
	}
	_, err = w.end.ExecContext(ctx)
	return sizes, err
}

// putTasks writes each changed task once, however many events it had.
func (w *writer) putTasks(ctx context.Context, b *batch) ([]int, error) {
	sizes := make([]int, 0, len(b.dirty))
	var fresh []any
	for _, e := range b.dirty {
		t := &e.task
		doc, err := encode(t)
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, len(doc))
		c := columnsOf(t)
		switch {
		case e.stored == nil:
			id, _ := idBytes(t.ID)
			fresh = append(fresh, e.n, id, string(t.Function), c.state, t.Source, null(c.node), null(c.device), null(c.fallback),
				t.CreatedAt.UnixMilli(), c.queued, int64(t.Seq), doc)
			if len(fresh) < w.addTasks.rows*w.addTasks.width {
				continue
			}
			err, fresh = w.addTasks.exec(ctx, fresh), fresh[:0]
		case c == (columns{c.state, e.stored.node, e.stored.device, e.stored.fallback, e.stored.queued}):
			_, err = w.setState.ExecContext(ctx, c.state, int64(t.Seq), doc, e.n)
		default:
			_, err = w.setAll.ExecContext(ctx, c.state, int64(t.Seq), doc, null(c.node), null(c.device), null(c.fallback), c.queued, e.n)
		}
		if err != nil {
			return nil, err
		}
	}
	return sizes, w.addTasks.exec(ctx, fresh)
}

// tasks loads the tasks of the ids that exist.
func (w *writer) tasks(ctx context.Context, ids [][]byte, into map[functions.TaskID]*entry) error {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	return w.findTasks.query(ctx, args, func(s scanner) error {
		var n int64
		var doc sql.RawBytes
		if err := s.Scan(&n, &doc); err != nil {
			return err
		}
		t, err := decode(doc)
		if err != nil {
			return err
		}
		cols := columnsOf(&t)
		into[t.ID] = &entry{task: t, n: n, stored: &cols}
		return nil
	})
}

// keys loads the idempotency keys that have been used.
func (w *writer) keys(ctx context.Context, keys []ledgerKey, into map[ledgerKey]functions.TaskID) error {
	args := make([]any, 0, 2*len(keys))
	for _, k := range keys {
		args = append(args, string(k.function), k.key)
	}
	return w.findKeys.query(ctx, args, func(s scanner) error {
		var k ledgerKey
		var id []byte
		if err := s.Scan(&k.function, &k.key, &id); err != nil {
			return err
		}
		into[k] = idText(id)
		return nil
	})
}

// rowSet is a statement that takes one row of arguments, and its twin that takes
// many at once: a call into the engine costs more than a row does.
type rowSet struct {
	rows, width int
	one, many   *sql.Stmt
}

// chunks cuts the arguments into calls of many, and the rest into calls of one.
func (r rowSet) chunks(args []any, call func(*sql.Stmt, []any) error) error {
	for len(args) > 0 {
		stmt, size := r.one, r.width
		if len(args) >= r.rows*r.width {
			stmt, size = r.many, r.rows*r.width
		}
		if err := call(stmt, args[:size]); err != nil {
			return err
		}
		args = args[size:]
	}
	return nil
}

func (r rowSet) exec(ctx context.Context, args []any) error {
	return r.chunks(args, func(s *sql.Stmt, part []any) error {
		_, err := s.ExecContext(ctx, part...)
		return err
	})
}

func (r rowSet) query(ctx context.Context, args []any, each func(scanner) error) error {
	return r.chunks(args, func(s *sql.Stmt, part []any) error {
		rows, err := s.QueryContext(ctx, part...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows); err != nil {
				return fmt.Errorf("read row: %w", err)
			}
		}
		return rows.Err()
	})
}
