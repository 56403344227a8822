package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// staging has two functions that watch one bucket run on each object, one after
// the other: the second finds what the node fetched for the first.
func (b *bench) staging(ctx context.Context) error {
	b.note("the node shares the cores with the store; the second function waits until the first has run")
	embedded, err := b.serve(ctx, "staging", "--runtime", "simulated")
	if err != nil {
		return err
	}
	s3, err := harness.S3(embedded.Store[len("http://"):], embedded.S3Key, embedded.S3Pass, nil)
	if err == nil {
		err = b.stageTwice(ctx, "embedded store", embedded, s3)
	}
	embedded.Kill()
	if err != nil {
		return err
	}
	s, err := b.onMinIO(ctx, "staging-minio", []string{"FAST"})
	if err != nil {
		return err
	}
	defer s.stop()
	return b.stageTwice(ctx, "MinIO", s.srv, s.s3)
}

const stagers = "name: %s\nimage: simulated\ndevice: never\nconcurrency: 1\nlimits: {cpus: 0.01, memory: 6MiB}\ntriggers: [{bucket: inbox}]\n"

func (b *bench) stageTwice(ctx context.Context, store string, srv *harness.Server, s3 *minio.Client) error {
	for _, name := range []string{"first", "second"} {
		if _, _, _, err := srv.Call(ctx, "POST", "/v1/functions", map[string]string{"Content-Type": "application/yaml"}, bytes.NewReader(fmt.Appendf(nil, stagers, name))); err != nil {
			return err
		}
	}
	data := make([]byte, 256<<20)
	fill(data)
	took := map[functions.Name][]float64{}
	for round := range b.rounds {
		// The second function is busy until the first has its object.
		if _, err := srv.Submit(ctx, "second", `{"sleep_ms":12000}`, nil); err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
		data[0]++ // another content: nothing of an earlier round helps
		key := fmt.Sprint(round)
		if _, err := s3.PutObject(ctx, "inbox", key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{PartSize: 64 << 20, DisableContentSha256: true}); err != nil {
			return err
		}
		done := map[functions.Name]harness.Task{}
		for len(done) < 2 {
			var page struct{ Tasks []harness.Task }
			if err := srv.JSON(ctx, "GET", "/v1/tasks?limit=10", nil, &page); err != nil {
				return err
			}
			for _, t := range page.Tasks {
				if len(t.Inputs) == 1 && t.Inputs[0].Key == key && t.Ended() {
					done[t.Function] = t
				}
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		first, second := done["first"], done["second"]
		if first.Failure != nil || second.Failure != nil {
			return fmt.Errorf("a task failed: %+v, %+v", first.Failure, second.Failure)
		}
		if second.Attempts[0].StartedAt.Before(first.FinishedAt) {
			continue // the first was too slow for this comparison
		}
		for name, t := range done {
			took[name] = append(took[name], t.Timings["stage"])
		}
	}
	b.spread("256 MiB from the "+store+", first use on the node", took["first"])
	b.spread("  second use", took["second"])
	return nil
}
