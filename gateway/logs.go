package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// maxLine bounds one line of a stored log. A node cuts lines well below it.
const maxLine = 1 << 20

// maxTail bounds ?tail=, which is held in memory.
const maxTail = 10000

// logs sends what an attempt wrote: from the store when it has ended, from its
// node while it runs. With ?follow it goes on to the end of the task, through
// further attempts unless one was asked for.
func (g *Gateway) logs(w http.ResponseWriter, r *http.Request) error {
	t, err := g.taskOf(r.Context(), r)
	if err != nil {
		return err
	}
	number, tail, err := logQuery(r, &t)
	if err != nil {
		return err
	}
	if !t.Purged.Logs.IsZero() {
		return expired(&t, functions.StoredLogs)
	}
	out := &logWriter{stream: newStream(w, "text/plain; charset=utf-8")}
	if accept := r.Header.Get("Accept"); strings.Contains(accept, "ndjson") || strings.Contains(accept, "jsonl") {
		out.json = true
		w.Header().Set("Content-Type", "application/x-ndjson")
	}
	if r.Method == http.MethodHead {
		return nil
	}
	if follows(r) {
		return g.follow(r.Context(), out, t, number, tail)
	}
	if number == 0 {
		number = t.Attempt
	}
	if a := attemptOf(&t, number); a != nil {
		return g.backlog(r.Context(), &t, a, 0, tail, out.lines)
	}
	return nil // no attempt yet: nothing was written
}

func follows(r *http.Request) bool {
	v := r.URL.Query().Get("follow")
	return v == "1" || v == "true"
}

func logQuery(r *http.Request, t *functions.Task) (attempt, tail int, err error) {
	for _, p := range []struct {
		key  string
		into *int
		most int
	}{{"attempt", &attempt, 1 << 30}, {"tail", &tail, maxTail}} {
		v := r.URL.Query().Get(p.key)
		if v == "" {
			continue
		}
		if *p.into, err = strconv.Atoi(v); err != nil || *p.into < 1 || *p.into > p.most {
			return 0, 0, functions.Invalid("bad_query", "%s: %.40q is not a number from 1 to %d", p.key, v, p.most).WithField(p.key)
		}
	}
	if attempt > t.Attempt && !follows(r) {
		return 0, 0, functions.NotFound("no_such_attempt", "task %s has %d attempts", t.ID, t.Attempt)
	}
	return attempt, tail, nil
}

func attemptOf(t *functions.Task, number int) *functions.Attempt {
	for i := range t.Attempts {
		if t.Attempts[i].Number == number {
			return &t.Attempts[i]
		}
	}
	return nil
}

// logWriter sends lines in order and each once.
type logWriter struct {
	stream *stream
	json   bool
	after  int64 // number of the last line that was sent
}

func (o *logWriter) lines(lines []functions.LogLine) error {
	var b strings.Builder
	for _, l := range lines {
		if l.N <= o.after {
			continue
		}
		o.after = l.N
		if o.json {
			j, err := json.Marshal(l)
			if err != nil {
				return fmt.Errorf("encode log line: %w", err)
			}
			b.Write(j)
		} else {
			b.WriteString(strings.TrimRight(l.Text, "\r\n"))
		}
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return nil
	}
	return o.stream.write([]byte(b.String()))
}

// backlog hands on the lines of an attempt behind after that exist now; only the
// last ones when tail is not 0.
func (g *Gateway) backlog(ctx context.Context, t *functions.Task, a *functions.Attempt, after int64, tail int, handle func([]functions.LogLine) error) error {
	if a.Log != nil {
		err := g.stored(ctx, *a.Log, after, tail, handle)
		if errors.Is(err, functions.ErrNotFound) {
			return expired(t, functions.StoredLogs) // from before a retry: the task does not say since when
		}
		return err
	}
	if !a.EndedAt.IsZero() {
		return nil // lost with its node, or never started
	}
	return g.running(ctx, t.ID, a, after, tail, handle)
}

// running reads from the node, which answers as many lines at once as a message
// holds.
func (g *Gateway) running(ctx context.Context, id functions.TaskID, a *functions.Attempt, after int64, tail int, handle func([]functions.LogLine) error) error {
	var last []functions.LogLine
	for {
		lines, err := g.cfg.NodeLogs.ReadLog(ctx, a.Node, id, a.Number, after)
		if err != nil && !errors.Is(err, functions.ErrNotFound) { // not found: not launched yet, or just ended
			return fmt.Errorf("read the log from node %s: %w", a.Node, err)
		}
		if len(lines) == 0 {
			return handle(last)
		}
		after = lines[len(lines)-1].N
		if tail == 0 {
			if err := handle(lines); err != nil {
				return err
			}
			continue
		}
		last = append(last, lines...)
		if n := len(last) - tail; n > 0 {
			last = append(last[:0], last[n:]...)
		}
	}
}

func (g *Gateway) stored(ctx context.Context, ref functions.ObjectRef, after int64, tail int, handle func([]functions.LogLine) error) error {
	body, err := g.cfg.Objects.Get(ctx, ref)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer body.Close()
	sc := bufio.NewScanner(body)
	sc.Buffer(nil, maxLine)
	const some = 256 // lines sent at once
	var lines []functions.LogLine
	for sc.Scan() {
		var l functions.LogLine
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			return fmt.Errorf("decode the log: %w", err)
		}
		if l.N <= after {
			continue
		}
		lines = append(lines, l)
		switch {
		case tail > 0 && len(lines) >= 2*tail:
			lines = append(lines[:0], lines[len(lines)-tail:]...)
		case tail == 0 && len(lines) >= some:
			if err := handle(lines); err != nil {
				return err
			}
			lines = lines[:0]
		}
	}
	if err := sc.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the log: %w", err)
	}
	if tail > 0 && len(lines) > tail {
		lines = lines[len(lines)-tail:]
	}
	return handle(lines)
}

// catchUp is how often a followed log is read again from the node: live lines are
// a hint and may be lost.
const catchUp = time.Second
