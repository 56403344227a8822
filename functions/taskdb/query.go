package taskdb

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/spillway/spillway/functions"
)

type scanner interface{ Scan(dest ...any) error }

// querier is a pool, a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// query streams the rows of a SELECT. An error ends the sequence.
func query[T any](ctx context.Context, q querier, scan func(scanner) (T, error), text string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		rows, err := q.QueryContext(ctx, text, args...)
		if err != nil {
			yield(zero, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			v, err := scan(rows)
			if !yield(v, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(zero, err)
		}
	}
}

type count struct {
	group
	tasks int64
}

func scanCount(s scanner) (c count, err error) {
	var code int
	if err := s.Scan(&c.function, &c.source, &code, &c.tasks); err != nil {
		return c, err
	}
	if code < 0 || code >= len(stateCodes) {
		return c, fmt.Errorf("state code %d is unknown", code)
	}
	c.state = stateCodes[code]
	return c, nil
}

func scanTask(s scanner) (functions.Task, error) {
	var doc sql.RawBytes
	if err := s.Scan(&doc); err != nil {
		return functions.Task{}, err
	}
	return decode(doc)
}
