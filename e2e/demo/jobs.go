package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// row is one job of the demo, after its end.
type row struct {
	what   string
	task   harness.Task
	output string
}

const inputs = "e2e/testdata/"

// jobs runs the four ways in, one after the other.
func jobs(ctx context.Context, srv *harness.Server) ([]row, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, errors.New("the jobs did not end within 3 minutes"))
	defer cancel()
	var rows []row
	for _, job := range []struct {
		what string
		run  func(context.Context, *harness.Server) (functions.TaskID, error)
	}{
		{"(a) JPEG, presigned upload", photo},
		{"(b) WAV, POST /api/v1/ingest/file gpu=true", speech},
		{"(c) PDF, dropped into bucket inbox", report},
		{"(d) JSON, HTTP call", call},
	} {
		id, err := job.run(ctx, srv)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", job.what, err)
		}
		t, err := srv.WaitTask(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", job.what, err)
		}
		out, err := output(ctx, srv, t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", job.what, err)
		}
		rows = append(rows, row{job.what, t, out})
	}
	return rows, nil
}

func photo(ctx context.Context, srv *harness.Server) (functions.TaskID, error) {
	b, err := os.ReadFile(inputs + "photo.jpg")
	if err != nil {
		return "", err
	}
	return srv.Upload(ctx, "thumbnail", "photo.jpg", "image/jpeg", b)
}

// speech is what clients of the replaced system run, to the letter.
func speech(ctx context.Context, srv *harness.Server) (functions.TaskID, error) {
	out, err := exec.CommandContext(ctx, "curl", "-sS", "--fail-with-body", "-F", "file=@"+inputs+"speech.wav", "-F", "gpu=true", srv.Gateway+"/api/v1/ingest/file").Output()
	if err != nil {
		return "", fmt.Errorf("curl: %w: %s", err, out)
	}
	var a struct {
		TaskID functions.TaskID `json:"task_id"`
		Status string           `json:"status"`
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return "", fmt.Errorf("decode %s: %w", out, err)
	}
	if _, err := srv.WaitTask(ctx, a.TaskID); err != nil {
		return "", err
	}
	for _, path := range []string{"/api/v1/status/" + string(a.TaskID), "/api/v1/status/workers"} {
		_, _, b, err := srv.Call(ctx, http.MethodGet, path, nil, nil)
		if err != nil {
			return "", err
		}
		fmt.Printf("GET %s\n  %s\n", path, clip(string(bytes.TrimSpace(b)), 600))
	}
	fmt.Println()
	return a.TaskID, nil
}

// report drops the object with a client that knows nothing of Spillway, then
// looks for the task that the drop started.
func report(ctx context.Context, srv *harness.Server) (functions.TaskID, error) {
	b, err := os.ReadFile(inputs + "report.pdf")
	if err != nil {
		return "", err
	}
	c := s3.New(s3.Options{
		BaseEndpoint: &srv.Store, UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(srv.S3Key, srv.S3Pass, ""),
	})
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String("inbox"), Key: aws.String("docs/report.pdf"), Body: bytes.NewReader(b), ContentType: aws.String("application/pdf"),
	}); err != nil {
		return "", fmt.Errorf("put the object: %w", err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var page struct{ Tasks []harness.Task }
		if err := srv.JSON(ctx, http.MethodGet, "/v1/tasks?function=extract-text&source=s3", nil, &page); err != nil {
			return "", err
		}
		if len(page.Tasks) > 0 {
			return page.Tasks[0].ID, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

func call(ctx context.Context, srv *harness.Server) (functions.TaskID, error) {
	_, header, b, err := srv.Call(ctx, http.MethodPost, "/v1/functions/echo/invoke",
		map[string]string{"Content-Type": "application/json"}, strings.NewReader(`{"hello":"world"}`))
	if err != nil {
		return "", err
	}
	if !json.Valid(b) {
		return "", fmt.Errorf("the answer is not JSON: %s", b)
	}
	return functions.TaskID(header.Get("Spillway-Task-Id")), nil
}

// output names what a task made: its files, else its result.
func output(ctx context.Context, srv *harness.Server, t harness.Task) (string, error) {
	if t.Status != string(functions.Succeeded) {
		return "", nil
	}
	_, _, b, err := srv.Call(ctx, http.MethodGet, "/v1/tasks/"+string(t.ID)+"/result", nil, nil)
	if err != nil {
		return "", err
	}
	var names []string
	for _, o := range t.Outputs {
		names = append(names, fmt.Sprintf("%s (%d B)", o.Name, o.Size))
	}
	return strings.Join(append(names, clip(string(bytes.TrimSpace(b)), 60)), " "), nil
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
