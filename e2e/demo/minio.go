package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spillway/spillway/e2e/harness"
)

// minio is a MinIO server of the demo's own.
type minio struct {
	cmd      *exec.Cmd
	endpoint string
	token    string
}

const (
	minioKey    = "spillwaydemo"
	minioSecret = "spillway-demo-secret"
)

// startMinIO starts the server that `make minio` built, with a webhook target
// that points at the gateway to be.
func startMinIO(ctx context.Context, dir string, ports *harness.Ports) (*minio, error) {
	bin, err := filepath.Abs(filepath.Join(".cache", "minio", "minio"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	ln.Close()
	m := &minio{endpoint: "http://" + addr, token: "spillway-demo-token", cmd: exec.Command(bin, "server", "--quiet", "--address", addr, dir)}
	m.cmd.Env = append(os.Environ(),
		"MINIO_ROOT_USER="+minioKey, "MINIO_ROOT_PASSWORD="+minioSecret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
		"MINIO_NOTIFY_WEBHOOK_ENABLE_FAST=on", "MINIO_NOTIFY_WEBHOOK_ENDPOINT_FAST=http://"+ports.Gateway+"/internal/s3-events/fast",
		"MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_FAST="+m.token)
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start MinIO (make minio builds it): %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("MinIO did not answer within 30 s"))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get(m.endpoint + "/minio/health/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return m, nil // spillway itself waits until signed requests are answered
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.stop()
			return nil, context.Cause(ctx)
		}
	}
}

func (m *minio) args() []string {
	return []string{
		"--store-endpoint", m.endpoint, "--store-access-key", minioKey, "--store-webhook-arn", "arn:minio:sqs::FAST:webhook",
	}
}

func (m *minio) env() []string {
	return []string{"SPILLWAY_STORE_SECRET_KEY=" + minioSecret, "SPILLWAY_STORE_WEBHOOK_TOKEN=" + m.token}
}

func (m *minio) stop() {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	_ = m.cmd.Wait()
}
