package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spillway/spillway/e2e/harness"
)

// minio is a MinIO server of the demo's own.
type minio struct{ *harness.MinIO }

const (
	hookToken = "spillway-demo-token"
	fast      = "FAST"
	durable   = "DURABLE"
)

// startMinIO starts the server that `make minio` built, with two webhook targets
// that point at the gateway to be: one reports at once, the other keeps its
// reports until they are taken.
func startMinIO(ctx context.Context, dir string, ports *harness.Ports) (*minio, error) {
	bin, err := filepath.Abs(filepath.Join(".cache", "minio", "minio"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("find MinIO (make minio builds it): %w", err)
	}
	free, err := harness.FreePorts()
	if err != nil {
		return nil, err
	}
	hook := "http://" + ports.Gateway + "/internal/s3-events/"
	m, err := harness.StartMinIO(ctx, harness.MinIOConfig{
		Bin: bin, Dir: filepath.Join(dir, "objects"), Listen: free.Store,
		Env: append(harness.Webhook(fast, hook+"fast", hookToken, ""), harness.Webhook(durable, hook+"durable", hookToken, filepath.Join(dir, "reports"))...),
	})
	if err != nil {
		return nil, err
	}
	return &minio{m}, nil
}

func (m *minio) args() []string {
	return []string{
		"--store-endpoint", m.Endpoint(), "--store-access-key", harness.MinIOKey,
		"--store-webhook-arn", harness.WebhookARN(fast), "--store-webhook-arn", harness.WebhookARN(durable),
	}
}

func (m *minio) env() []string {
	return []string{"SPILLWAY_STORE_SECRET_KEY=" + harness.MinIOSecret, "SPILLWAY_STORE_WEBHOOK_TOKEN=" + hookToken}
}
