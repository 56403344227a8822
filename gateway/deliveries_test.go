package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

func TestWebhook(t *testing.T) {
	const hook = "https://example.org/hook?token=1"
	upload := `{"function":"echo","name":"a.wav","size":4,"type":"audio/wav"}`
	for name, c := range map[string]struct{ path, body string }{
		"invoke": {"/v1/functions/echo/invoke", `{}`},
		"submit": {"/v1/tasks", `{"function":"echo"}`},
		"upload": {"/v1/uploads", upload},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			rec := w.do(t, "POST", c.path, c.body, "Spillway-Webhook", hook)
			if rec.Code >= 300 {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			ids := w.ids()
			if len(ids) != 1 || w.get(ids[0]).Webhook != hook {
				t.Fatalf("the task does not know its webhook: %+v", w.get(ids[0]))
			}
			shown := w.do(t, "GET", "/v1/tasks/"+string(ids[0]), "")
			var task struct {
				Webhook string `json:"webhook"`
			}
			if err := json.Unmarshal(shown.Body.Bytes(), &task); err != nil || task.Webhook != hook {
				t.Errorf("shown as %s", shown.Body)
			}
			var list struct {
				Deliveries []functions.Delivery `json:"deliveries"`
			}
			log := w.do(t, "GET", "/v1/tasks/"+string(ids[0])+"/webhook", "")
			want := map[bool]int{true: 0, false: 1}[name == "upload"] // which has not ended
			if err := json.Unmarshal(log.Body.Bytes(), &list); err != nil || log.Code != 200 || len(list.Deliveries) != want {
				t.Errorf("%d %s, %v", log.Code, log.Body, err)
			}

			for _, bad := range []string{"ftp://example.org/", "not a url", "http://user:pass@example.org/", "http:///x"} {
				rec := w.do(t, "POST", c.path, c.body, "Spillway-Webhook", bad)
				if rec.Code != 400 || !strings.Contains(rec.Body.String(), `"webhook"`) {
					t.Errorf("%q: %d %s", bad, rec.Code, rec.Body)
				}
			}
			if len(w.ids()) != 1 {
				t.Error("a call with a bad webhook was accepted")
			}
		})
	}
}
