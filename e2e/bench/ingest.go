package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/e2e/harness"
)

// ingest puts small objects into a watched bucket and takes the time from each
// one's acknowledgement to its task.
func (b *bench) ingest(ctx context.Context) error {
	objects := b.objects
	for _, name := range strings.Split(b.targets, ",") {
		if err := b.ingestBy(ctx, name, objects); err != nil {
			return err
		}
		objects = b.objects / 3
	}
	return nil
}

// ingestBy measures with one choice of webhooks: as fast as 16 clients put, then
// at shares of the rate that this had; or at the rate that was asked for.
func (b *bench) ingestBy(ctx context.Context, name string, objects int) error {
	s, err := b.onMinIO(ctx, "ingest-"+name, strings.Split(name, "+"), "--reconcile", "30s")
	if err != nil {
		return err
	}
	defer s.stop()
	b.note(name + ": client, MinIO and server share the cores; the tasks stay in the queue; created_at is cut to whole milliseconds")
	watch := fmt.Sprintf(never, "fn") + "triggers: [{bucket: inbox}]\n"
	if _, _, _, err := s.srv.Call(ctx, "POST", "/v1/functions", map[string]string{"Content-Type": "application/yaml"}, strings.NewReader(watch)); err != nil {
		return err
	}
	if _, err := s.burst(ctx, "warm", 200, 50); err != nil {
		return err
	}
	most, err := s.burst(ctx, "most", objects, b.rate)
	if err != nil {
		return err
	}
	if b.rate > 0 {
		most.print(b, fmt.Sprintf("%s, %.0f per second", name, b.rate))
		return nil
	}
	most.print(b, name+", as fast as 16 clients put")
	for _, share := range []float64{0.5, 0.75} {
		u, err := s.burst(ctx, fmt.Sprint(share), min(objects, int(most.rate*share*15)), most.rate*share)
		if err != nil {
			return err
		}
		u.print(b, fmt.Sprintf("%s, at %.2f of that", name, share))
	}
	return nil
}

// burst is the outcome of putting n objects.
type burst struct {
	puts, rate    float64   // per second: acknowledged, turned into tasks
	late          []float64 // ms from acknowledgement to the task
	listed        int       // found by listing only
	client, minio time.Duration
	server        time.Duration
	n             int
}

func (u *burst) print(b *bench, what string) {
	b.figure(fmt.Sprintf("%s: %d objects put", what, u.n), u.puts, "per second")
	b.figure("  turned into tasks", u.rate, "per second")
	b.spread("  acknowledged to its task", u.late)
	b.figure("  found by listing", float64(u.listed), "objects")
	per := func(d time.Duration) float64 { return ms(d) / float64(u.n) }
	fmt.Printf("  %-56s %10.2f ms client %10.2f MinIO %10.2f server\n", "  processor time of an object", per(u.client), per(u.minio), per(u.server))
}

// burst puts n objects with 16 clients, at a rate per second or as fast as it
// goes, and waits for all their tasks.
func (s *sides) burst(ctx context.Context, prefix string, n int, rate float64) (*burst, error) {
	u := &burst{n: n}
	before, listed := s.processor(), s.log.count()
	acked := map[string]time.Time{}
	var mu sync.Mutex // guards acked
	began := time.Now()
	var body [256]byte
	err := each(ctx, n, 16, func(ctx context.Context, i int) error {
		if rate > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
		}
		key := fmt.Sprintf("%s/%06d", prefix, i)
		_, err := s.s3.PutObject(ctx, "inbox", key, bytes.NewReader(body[:]), int64(len(body)), minio.PutObjectOptions{DisableContentSha256: true})
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		acked[key] = now
		return err
	})
	if err != nil {
		return nil, err
	}
	u.puts = float64(n) / time.Since(began).Seconds()
	var last time.Time
	seen := map[string]bool{}
	for len(seen) < n { // newest first: the next look begins at the newest again
		for cursor := ""; ; {
			var page struct {
				Tasks []harness.Task
				Next  string `json:"next_cursor"`
			}
			if err := s.srv.JSON(ctx, http.MethodGet, "/v1/tasks?limit=500&cursor="+cursor, nil, &page); err != nil {
				return nil, err
			}
			for _, t := range page.Tasks {
				key := t.Inputs[0].Key
				at, ok := acked[key]
				if !ok || seen[key] {
					continue
				}
				seen[key] = true
				u.late = append(u.late, max(0, ms(t.CreatedAt.Sub(at))))
				if t.CreatedAt.After(last) {
					last = t.CreatedAt
				}
			}
			if cursor = page.Next; cursor == "" || len(seen) == n {
				break
			}
		}
		if len(seen) < n {
			select {
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if time.Since(began) > 5*time.Minute {
			return nil, fmt.Errorf("%d of %d objects have a task after 5 minutes", len(seen), n)
		}
	}
	u.rate = float64(n) / last.Sub(began).Seconds()
	after := s.processor()
	u.client, u.minio, u.server = after[0]-before[0], after[1]-before[1], after[2]-before[2]
	u.listed = s.log.count() - listed
	return u, nil
}
