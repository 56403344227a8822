// Command demo runs the main job on this machine with real input: it starts
// `spillway up` on free loopback ports with a fresh data folder, uploads a JPEG,
// posts a WAV the way clients of the system that Spillway replaces do, drops a
// PDF into a watched bucket with a plain S3 client, and calls a function over
// HTTP. It prints what happened as one table, stops everything, and exits 0.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spillway/spillway/e2e/harness"
)

func main() {
	store := flag.String("store", "embedded", "embedded or minio")
	bin := flag.String("bin", "bin/spillway", "the binary to run")
	keep := flag.Bool("keep", false, "keep serving after the jobs, until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *store, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, store string, keep bool) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "spillway-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()

	ports, err := harness.FreePorts()
	if err != nil {
		return err
	}
	cfg := harness.Config{
		Bin: bin, Data: filepath.Join(dir, "data"), Log: log, Ports: ports,
		Args: []string{"--no-auth", "--assume-gpu", "1", "--node-id", fmt.Sprintf("demo-%d", os.Getpid())},
	}
	if store == "minio" {
		m, err := startMinIO(ctx, filepath.Join(dir, "minio"), ports)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.Stop()) }()
		cfg.Args = append(cfg.Args, m.args()...)
		cfg.Env = m.env()
	}
	starting, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("spillway up was not ready within a minute"))
	defer cancel()
	srv, err := harness.Start(starting, cfg)
	if err != nil {
		dump(log.Name())
		return err
	}
	defer func() {
		if serr := srv.Stop(30 * time.Second); serr != nil && err == nil {
			err = fmt.Errorf("shut down: %w", serr)
		}
		if err != nil {
			dump(log.Name())
		}
	}()

	if err := deploy(ctx, srv); err != nil {
		return err
	}
	rows, err := jobs(ctx, srv)
	if err != nil {
		return err
	}
	if err := printTable(os.Stdout, rows); err != nil {
		return err
	}
	fmt.Printf("\ngateway  %s   (try %s/v1/tasks, %s/v1/nodes, %s/metrics, %s/openapi.json)\nstore    %s   (%s)\ntook     %.1f s\n",
		srv.Gateway, srv.Gateway, srv.Gateway, srv.Gateway, srv.Gateway, srv.Store, store, time.Since(began).Seconds())
	if err := verdict(rows); err != nil {
		return err
	}
	if keep {
		fmt.Println("serving until Ctrl-C")
		<-ctx.Done()
	}
	return nil
}

// dump shows the end of the server's log, which is about to be deleted.
func dump(path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		return
	}
	const most = 8 << 10
	if len(b) > most {
		b = b[len(b)-most:]
	}
	fmt.Fprintf(os.Stderr, "--- server log\n%s---\n", b)
}

func deploy(ctx context.Context, srv *harness.Server) error {
	args := []string{"deploy"}
	for _, fn := range []string{"echo", "thumbnail", "waveform", "media-info", "extract-text"} {
		args = append(args, filepath.Join("functions", "catalog", fn))
	}
	_, err := srv.CLI(ctx, args...)
	return err
}
