package taskdb

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"github.com/spillway/spillway/functions"
)

// live finds unfinished rows by the counters' groups, sorts
// their numbers, and only then reads each document. The LIMIT keeps SQLite from
// merging the two queries and sorting the documents themselves.
const live = `
SELECT (SELECT doc FROM tasks WHERE n = waiting.n) FROM (
	SELECT t.n AS n FROM counts c CROSS JOIN tasks t INDEXED BY tasks_group
		ON t.function = c.function AND t.source = c.source AND t.state = c.state
	WHERE c.tasks > 0 AND c.state < ?
	ORDER BY t.queued, t.seq, t.n LIMIT -1
) AS waiting`

// Live streams every unfinished task in queue order: by QueuedAt, then by log
// sequence. All are of one moment. The caller must not linger: the sequence
// holds one of the few read connections, and keeps the write-ahead log growing.
//
// A new leader waits for the last of them, and most of the time goes into
// decoding: rows are read, decoded and handed over at once, in parts.
func (db *DB) Live(ctx context.Context) iter.Seq2[functions.Task, error] {
	return func(yield func(functions.Task, error) bool) {
		reading, cancel := context.WithCancel(ctx)
		var group sync.WaitGroup
		defer group.Wait()
		defer cancel()
		decoders := runtime.GOMAXPROCS(0)
		todo, inOrder := make(chan *part, decoders), make(chan *part, 2*decoders)
		group.Go(func() { db.readLive(reading, todo, inOrder) })
		for range decoders {
			group.Go(func() {
				for p := range todo {
					p.decode()
				}
			})
		}
		for p := range inOrder {
			<-p.done
			for i := range p.tasks {
				if !yield(p.tasks[i], nil) {
					return
				}
			}
			if p.err != nil {
				yield(functions.Task{}, fmt.Errorf("read unfinished tasks: %w", translate(p.err, db.path)))
				return
			}
		}
		if ctx.Err() != nil { // what was handed over may not be all
			yield(functions.Task{}, fmt.Errorf("read unfinished tasks: %w", context.Cause(ctx)))
		}
	}
}

// part is some documents in a row. Whoever reads done's end may read the rest.
type part struct {
	text  []byte // the documents, one behind the other
	ends  []int  // where each ends
	tasks []functions.Task
	err   error // what came after them
	done  chan struct{}
}

// partDocs is enough documents for a hand-over between goroutines not to count.
const partDocs = 256

func newPart() *part { return &part{done: make(chan struct{})} }

func (p *part) decode() {
	defer close(p.done)
	p.tasks = make([]functions.Task, 0, len(p.ends))
	begin := 0
	for _, end := range p.ends {
		t, err := decode(p.text[begin:end])
		if err != nil {
			p.err = err
			return
		}
		p.tasks = append(p.tasks, t)
		begin = end
	}
	p.text = nil
}

// readLive sends the documents to both channels and closes them. It ends early,
// and silently, when ctx does.
func (db *DB) readLive(ctx context.Context, todo, inOrder chan<- *part) {
	defer close(inOrder)
	defer close(todo)
	p := newPart()
	send := func() bool {
		select {
		case inOrder <- p:
		case <-ctx.Done():
			return false
		}
		todo <- p // the decoders take it whatever happens
		p = newPart()
		return true
	}
	scan := func(s scanner) (sql.RawBytes, error) {
		var doc sql.RawBytes
		return doc, s.Scan(&doc)
	}
	for doc, err := range query(ctx, db.read, scan, live, firstFinal) {
		if p.err = err; err != nil {
			break
		}
		p.text = append(p.text, doc...)
		p.ends = append(p.ends, len(p.text))
		if len(p.ends) == partDocs && !send() {
			return
		}
	}
	send()
}
