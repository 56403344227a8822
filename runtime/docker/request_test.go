package docker

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// An engine that speaks Docker's API and knows no device requests takes the order
// and forgets them. The container must not run: its program would find no GPU.
func TestADroppedRequestForDevicesIsARefusal(t *testing.T) {
	for name, c := range map[string]struct {
		gpus []string
		kept []container.DeviceRequest
		ok   bool
	}{
		"kept":            {[]string{"GPU-a", "GPU-b"}, []container.DeviceRequest{{DeviceIDs: []string{"GPU-a", "GPU-b"}}}, true},
		"dropped":         {[]string{"GPU-a"}, nil, false},
		"another device":  {[]string{"GPU-a"}, []container.DeviceRequest{{DeviceIDs: []string{"GPU-b"}}}, false},
		"one of two":      {[]string{"GPU-a", "GPU-b"}, []container.DeviceRequest{{DeviceIDs: []string{"GPU-a"}}}, false},
		"a count of all":  {[]string{"GPU-a"}, []container.DeviceRequest{{Count: -1}}, false},
		"a CPU container": {nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			var removed, looked atomic.Int32
			engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("API-Version", "1.41")
				w.Header().Set("Content-Type", "application/json")
				answer := func(code int, body any) {
					w.WriteHeader(code)
					if err := json.NewEncoder(w).Encode(body); err != nil {
						t.Error(err)
					}
				}
				switch {
				case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/containers/create"):
					answer(http.StatusCreated, container.CreateResponse{ID: "c1"})
				case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/containers/c1/json"):
					looked.Add(1)
					answer(http.StatusOK, container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{
						ID: "c1", HostConfig: &container.HostConfig{Resources: container.Resources{DeviceRequests: c.kept}},
					}})
				case r.Method == http.MethodDelete:
					removed.Add(1)
					w.WriteHeader(http.StatusNoContent)
				}
			}))
			defer engine.Close()
			d, err := New(Config{Host: "tcp://" + engine.Listener.Addr().String()})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			id, err := d.Create(t.Context(), runtime.Spec{Image: "box", GPUs: c.gpus})
			if c.ok {
				if err != nil || id != "c1" || removed.Load() != 0 || (looked.Load() > 0) != (len(c.gpus) > 0) {
					t.Errorf("Create = %q, %v; looked at %d times, removed %d times", id, err, looked.Load(), removed.Load())
				}
				return
			}
			var refused *runtime.LaunchError
			if !errors.As(err, &refused) || id != "" || removed.Load() != 1 {
				t.Fatalf("Create = %q, %v; removed %d times", id, err, removed.Load())
			}
			if class := runtime.ClassifyLaunch(refused.Message, refused.Hung, true); class != functions.GPUHost || runtime.Hint(class, refused.Message) == "" {
				t.Errorf("class %s of %q, hint %q", class, refused.Message, runtime.Hint(class, refused.Message))
			}
		})
	}
}
