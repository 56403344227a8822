package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/e2e/harness"
)

// sides are a MinIO, a server on it, and a plain client of it.
type sides struct {
	store *harness.MinIO
	srv   *harness.Server
	s3    *minio.Client
	log   *recovered
}

const hookToken = "spillway-bench-token"

// hookPaths are the targets that the benchmarks' MinIO knows, by name.
var hookPaths = map[string]string{"FAST": "/internal/s3-events/fast", "DURABLE": "/internal/s3-events/durable"}

// minioBin finds the server: SPILLWAY_MINIO_BIN, .cache/minio/minio, PATH.
func minioBin() (string, error) {
	if bin := cmp.Or(os.Getenv("SPILLWAY_MINIO_BIN"), ".cache/minio/minio"); fileExists(bin) {
		return filepath.Abs(bin)
	}
	bin, err := exec.LookPath("minio")
	if err != nil {
		return "", fmt.Errorf("no MinIO server (make minio builds it): %w", err)
	}
	return bin, nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// onMinIO starts a MinIO and a server on it, whose watched buckets report to the
// targets.
func (b *bench) onMinIO(ctx context.Context, name string, targets []string, args ...string) (*sides, error) {
	bin, err := minioBin()
	if err != nil {
		return nil, err
	}
	ports, err := harness.FreePorts()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	ln.Close()
	cfg := harness.MinIOConfig{Bin: bin, Dir: filepath.Join(b.dir, name+"-minio"), Listen: addr, Log: io.Discard}
	if b.senders > 0 {
		cfg.Env = append(cfg.Env, fmt.Sprintf("GOMAXPROCS=%d", b.senders))
	}
	for _, t := range targets {
		queue := ""
		if t == "DURABLE" {
			queue = filepath.Join(b.dir, name+"-queue")
		}
		cfg.Env = append(cfg.Env, harness.Webhook(t, "http://"+ports.Gateway+hookPaths[t], hookToken, queue)...)
		args = append(args, "--store-webhook-arn", harness.WebhookARN(t))
	}
	s := &sides{log: &recovered{}}
	if s.store, err = harness.StartMinIO(ctx, cfg); err != nil {
		return nil, err
	}
	s.srv, err = harness.Start(ctx, harness.Config{
		Bin: b.bin, Data: filepath.Join(b.dir, name), Log: s.log, Ports: ports,
		Env: []string{"SPILLWAY_STORE_SECRET_KEY=" + harness.MinIOSecret, "SPILLWAY_STORE_WEBHOOK_TOKEN=" + hookToken},
		Args: append([]string{"--no-auth", "--node-id", fmt.Sprintf("bench-%d", os.Getpid()), "--runtime", "simulated",
			"--store-endpoint", s.store.Endpoint(), "--store-access-key", harness.MinIOKey}, args...),
	})
	if err == nil {
		s.s3, err = harness.S3(addr, harness.MinIOKey, harness.MinIOSecret, nil)
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *sides) stop() {
	if s.srv != nil {
		s.srv.Kill()
	}
	s.store.Kill()
}

// recovered reads from the server's log how many objects only a listing found.
type recovered struct {
	mu sync.Mutex // guards the fields below
	n  int
}

func (r *recovered) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range bytes.Lines(p) {
		if _, rest, ok := strings.Cut(string(line), `"objects found by listing"`); ok {
			_, rest, _ = strings.Cut(rest, `"count":`)
			var n int
			if _, err := fmt.Sscanf(rest, "%d", &n); err == nil {
				r.n += n
			}
		}
	}
	return len(p), nil
}

func (r *recovered) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// each runs do for 0 to n-1, so many at a time.
func each(ctx context.Context, n, clients int, do func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(clients)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}
