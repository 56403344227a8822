package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// told is one call of a webhook.
type told struct {
	id   string
	Type string `json:"type"`
	Data struct {
		ID              functions.TaskID    `json:"id"`
		DeviceRequested functions.Policy    `json:"device_requested"`
		DeviceUsed      functions.Device    `json:"device_used"`
		FallbackReason  string              `json:"fallback_reason"`
		Attempts        []functions.Attempt `json:"attempts"`
	} `json:"data"`
}

// TestWebhooks tells of ends although the receiver is down at first and the
// server is killed meanwhile; what it tells holds the whole chain of attempts.
func TestWebhooks(t *testing.T) {
	var mu sync.Mutex
	var calls []told
	open := false // the receiver
	var key []byte
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil || !signed(key, r.Header, body) {
			t.Errorf("a call that is not signed as Standard Webhooks says: %v", r.Header)
		}
		if !open {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		c := told{id: r.Header.Get("webhook-id")}
		if err := json.Unmarshal(body, &c); err != nil {
			t.Error(err)
		}
		calls = append(calls, c)
	}))
	defer receiver.Close()

	srv := server(t, "--runtime", "simulated", "--assume-gpu", "1", "--url-allow", "127.0.0.1")
	mu.Lock()
	key = webhookSecret(t, srv.Data())
	mu.Unlock()
	deploySpec(t, srv, "name: pictures\nimage: any\ndevice: preferred\nhandles: [image]\n")
	header := map[string]string{"Spillway-Webhook": receiver.URL + "/native"}
	native, err := srv.Submit(t.Context(), "pictures", `{}`, header)
	if err != nil {
		t.Fatal(err)
	}
	seed := ingest(t, srv, receiver.URL+"/seed")
	for _, id := range []functions.TaskID{native, seed} {
		if task, err := srv.WaitTask(t.Context(), id); err != nil || task.Status != "succeeded" {
			t.Fatalf("%s: %+v, %v", id, task, err)
		}
	}
	eventually(t, time.Minute, "both were told of, in vain", func() bool {
		for _, id := range []functions.TaskID{native, seed} {
			if d := deliveries(t, srv, id); len(d) != 1 || d[0].Count == 0 {
				return false
			}
		}
		return true
	})
	srv.Kill()
	mu.Lock()
	open = true
	mu.Unlock()
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, "both are heard", func() bool {
		mu.Lock()
		defer mu.Unlock()
		heard := map[functions.TaskID]bool{}
		for _, c := range calls {
			heard[c.Data.ID] = true
		}
		return heard[native] && heard[seed]
	})
	eventually(t, time.Minute, "and on record", func() bool {
		d := deliveries(t, srv, native)
		return len(d) == 1 && !d[0].Delivered.IsZero() && d[0].Next.IsZero()
	})
	mu.Lock()
	defer mu.Unlock()
	ids := map[functions.TaskID]string{}
	for _, c := range calls {
		if ids[c.Data.ID] != "" && ids[c.Data.ID] != c.id {
			t.Errorf("one end of %s was told as two: %s, %s", c.Data.ID, ids[c.Data.ID], c.id)
		}
		ids[c.Data.ID] = c.id
		if c.Data.ID != native {
			continue
		}
		a := c.Data.Attempts
		if c.Type != "task.succeeded" || c.Data.DeviceRequested != functions.Preferred || c.Data.DeviceUsed != functions.CPU || c.Data.FallbackReason == "" ||
			len(a) != 2 || a[0].Failure == nil || a[0].Failure.Class != functions.GPUHost || a[1].Failure != nil {
			t.Errorf("what was told does not hold the chain of attempts: %+v", c)
		}
	}
}

// ingest sends a picture as clients of the older service do.
func ingest(t *testing.T, srv *harness.Server, webhook string) functions.TaskID {
	t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for name, value := range map[string]string{"source_type": "image", "webhook_url": webhook} {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	file, err := w.CreateFormFile("file", "a.png")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write([]byte("\x89PNG\r\n\x1a\n")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	_, _, body, err := srv.Call(t.Context(), http.MethodPost, "/api/v1/ingest/file", map[string]string{"Content-Type": w.FormDataContentType()}, &form)
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var answer struct {
		TaskID functions.TaskID `json:"task_id"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.TaskID
}

func deliveries(t *testing.T, srv *harness.Server, id functions.TaskID) []functions.Delivery {
	t.Helper()
	var answer struct {
		Deliveries []functions.Delivery `json:"deliveries"`
	}
	if err := srv.JSON(t.Context(), http.MethodGet, "/v1/tasks/"+string(id)+"/webhook", nil, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Deliveries
}

func webhookSecret(t *testing.T, data string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var kept struct {
		Secret string `json:"webhook_secret"`
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(kept.Secret, "whsec_"))
	if err != nil || len(key) < 24 {
		t.Fatalf("the secret is %q", kept.Secret)
	}
	return key
}

// signed checks a call as the text of Standard Webhooks says.
func signed(key []byte, h http.Header, body []byte) bool {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(body)))
	return h.Get("webhook-signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
