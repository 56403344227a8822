package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Keys of every MinIO that this package starts.
const (
	MinIOKey    = "spillwaye2e"
	MinIOSecret = "spillway-e2e-secret"
)

// MinIOConfig is one MinIO server.
type MinIOConfig struct {
	Bin    string
	Dir    string     // of the objects
	Listen string     // host:port
	Dial   string     // host:port as this process reaches it; empty = Listen
	Env    []string   // more environment
	Log    io.Writer  // nil = dropped
	In     *Namespace // where it runs
	From   *Namespace // where this process calls it from
}

// MinIO is a running server. It can be killed and started again on its data.
type MinIO struct {
	cfg MinIOConfig
	*child
}

// StartMinIO runs a server and waits until it answers signed requests.
func StartMinIO(ctx context.Context, cfg MinIOConfig) (*MinIO, error) {
	if cfg.Dial == "" {
		cfg.Dial = cfg.Listen
	}
	m := &MinIO{cfg: cfg}
	return m, m.Restart(ctx)
}

// Endpoint is the server's URL for this process.
func (m *MinIO) Endpoint() string { return "http://" + m.cfg.Dial }

// Pid is the process's id.
func (m *MinIO) Pid() int { return m.cmd.Process.Pid }

// Kill is kill -9. It returns when the process is gone.
func (m *MinIO) Kill() { m.kill() }

// Stop ends the server.
func (m *MinIO) Stop() error { return m.stop(20 * time.Second) }

// Restart starts the server again on the same data and address, after Kill or Stop.
func (m *MinIO) Restart(ctx context.Context) error {
	if err := os.MkdirAll(m.cfg.Dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command(m.cfg.Bin, "server", "--quiet", "--address", m.cfg.Listen, m.cfg.Dir)
	cmd.Dir = m.cfg.Dir
	cmd.Stdout, cmd.Stderr = m.cfg.Log, m.cfg.Log
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + m.cfg.Dir,
		"MINIO_ROOT_USER=" + MinIOKey, "MINIO_ROOT_PASSWORD=" + MinIOSecret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}, m.cfg.Env...)
	var err error
	if m.child, err = startChild(cmd, m.cfg.In); err != nil {
		return err
	}
	client, err := S3(m.cfg.Dial, MinIOKey, MinIOSecret, m.cfg.From)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("MinIO did not answer within a minute"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		// MinIO's own health page says ready before its S3 side is.
		if _, err := client.ListBuckets(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-m.ended:
			return fmt.Errorf("MinIO ended at its start: %v", m.err)
		case <-ctx.Done():
			m.Kill()
			return context.Cause(ctx)
		}
	}
}

// S3 is a plain client of a store at host:port, as any program outside has one.
// It sends each request once: what fails is the caller's to see.
func S3(addr, key, secret string, from *Namespace) (*minio.Client, error) {
	return minio.New(addr, &minio.Options{
		Creds: credentials.NewStaticV4(key, secret, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
		Transport: Transport(from),
	})
}

// Transport is for callers inside a namespace. It keeps enough idle connections
// for loads of a few hundred of them.
func Transport(from *Namespace) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return from.Dial(ctx, network, addr)
		},
		MaxIdleConns: 512, MaxIdleConnsPerHost: 512, IdleConnTimeout: 30 * time.Second,
	}
}

// Webhook is the environment that makes MinIO report new objects to url under a
// target name. With a queue folder its reports survive an absent receiver.
func Webhook(name, url, token, queue string) []string {
	env := []string{
		"MINIO_NOTIFY_WEBHOOK_ENABLE_" + name + "=on",
		"MINIO_NOTIFY_WEBHOOK_ENDPOINT_" + name + "=" + url,
		"MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_" + name + "=" + token,
	}
	if queue != "" {
		env = append(env, "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_"+name+"="+queue, "MINIO_NOTIFY_WEBHOOK_QUEUE_LIMIT_"+name+"=1000000")
	}
	return env
}

// WebhookARN is the address of that target in notification rules.
func WebhookARN(name string) string { return "arn:minio:sqs::" + name + ":webhook" }
