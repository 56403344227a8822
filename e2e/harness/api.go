package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// Task is what the native API shows of a task.
type Task struct {
	ID              functions.TaskID    `json:"id"`
	Function        functions.Name      `json:"function"`
	Status          string              `json:"status"`
	DeviceRequested string              `json:"device_requested"`
	DeviceUsed      string              `json:"device_used"`
	FallbackReason  string              `json:"fallback_reason"`
	Route           functions.Route     `json:"route"`
	Waiting         *functions.Waiting  `json:"waiting"`
	Attempts        []functions.Attempt `json:"attempts"`
	Failure         *functions.Failure  `json:"failure"`
	Timings         map[string]float64  `json:"timings"`
	Source          string              `json:"source"`
	Inputs          []functions.Input   `json:"inputs"`
	Outputs         []struct {
		Name        string `json:"name"`
		Size        int64  `json:"size"`
		DownloadURL string `json:"download_url"`
	} `json:"outputs"`
	CreatedAt  time.Time `json:"created_at"`
	QueuedAt   time.Time `json:"queued_at"`
	FinishedAt time.Time `json:"finished_at"`
}

// Ended reports whether the status is final.
func (t Task) Ended() bool { return functions.State(t.Status).Final() }

// Problem is an error answer.
type Problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s (hint: %s)", p.Status, p.Code, p.Detail, p.Hint)
}

// Call sends one request and returns status, header and body; a status of 400
// or more is a *Problem too.
func (s *Server) Call(ctx context.Context, method, path string, header map[string]string, body io.Reader) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.Gateway+path, body)
	if err != nil {
		return 0, nil, nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if key, err := os.ReadFile(s.APIKey); err == nil {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, resp.Header, b, err
	}
	if resp.StatusCode >= 400 {
		p := &Problem{}
		_ = json.Unmarshal(b, p)
		p.Status = resp.StatusCode
		return resp.StatusCode, resp.Header, b, p
	}
	return resp.StatusCode, resp.Header, b, nil
}

// client keeps enough idle connections for loads of a few hundred callers.
var client = &http.Client{Transport: Transport(nil)}

// JSON calls with a JSON body and decodes the answer into out, when out is not nil.
func (s *Server) JSON(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	header := map[string]string{}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
		header["Content-Type"] = "application/json"
	}
	_, _, b, err := s.Call(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode %s: %w", b, err)
	}
	return nil
}

// Submit accepts one task and returns its id at once.
func (s *Server) Submit(ctx context.Context, fn, event string, header map[string]string) (functions.TaskID, error) {
	h := map[string]string{"Content-Type": "application/json", "Prefer": "respond-async"}
	for k, v := range header {
		h[k] = v
	}
	_, _, b, err := s.Call(ctx, http.MethodPost, "/v1/functions/"+fn+"/invoke", h, strings.NewReader(event))
	if err != nil {
		return "", err
	}
	var a struct{ ID functions.TaskID }
	if err := json.Unmarshal(b, &a); err != nil {
		return "", fmt.Errorf("decode %s: %w", b, err)
	}
	return a.ID, nil
}

// Task reads one task.
func (s *Server) Task(ctx context.Context, id functions.TaskID) (Task, error) {
	var t Task
	err := s.JSON(ctx, http.MethodGet, "/v1/tasks/"+string(id), nil, &t)
	return t, err
}

// WaitTask waits until a task has ended.
func (s *Server) WaitTask(ctx context.Context, id functions.TaskID) (Task, error) {
	for {
		var t Task
		if err := s.JSON(ctx, http.MethodGet, "/v1/tasks/"+string(id)+"?wait=20s", nil, &t); err != nil {
			return t, err
		}
		if t.Ended() {
			return t, nil
		}
		if ctx.Err() != nil {
			return t, context.Cause(ctx)
		}
	}
}

// Upload asks for a presigned upload, sends the bytes straight to the store,
// completes it and returns the task.
func (s *Server) Upload(ctx context.Context, fn, name, contentType string, data []byte) (functions.TaskID, error) {
	var session struct {
		ID     functions.TaskID           `json:"id"`
		Upload functions.PresignedRequest `json:"upload"`
	}
	ask := map[string]any{"function": fn, "name": name, "size": len(data), "content_type": contentType}
	if err := s.JSON(ctx, http.MethodPost, "/v1/uploads", ask, &session); err != nil {
		return "", fmt.Errorf("ask for an upload: %w", err)
	}
	if err := s.Put(ctx, session.Upload, data); err != nil {
		return "", err
	}
	err := s.JSON(ctx, http.MethodPost, "/v1/uploads/"+string(session.ID)+"/complete", nil, nil)
	return session.ID, err
}

// PutPresigned sends data exactly as a presigned request says.
func PutPresigned(ctx context.Context, to functions.PresignedRequest, data []byte) error {
	return put(ctx, client, to, data)
}

// Put is PutPresigned from where this process calls the server.
func (s *Server) Put(ctx context.Context, to functions.PresignedRequest, data []byte) error {
	return put(ctx, s.client, to, data)
}

func put(ctx context.Context, client *http.Client, to functions.PresignedRequest, data []byte) error {
	var body io.Reader = bytes.NewReader(data)
	if len(data) == 0 {
		body = http.NoBody
	}
	req, err := http.NewRequestWithContext(ctx, to.Method, to.URL, body)
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(data))
	for k, v := range to.Headers {
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("put to the store: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return fmt.Errorf("put to the store: %s: %s", resp.Status, b)
	}
	return nil
}
