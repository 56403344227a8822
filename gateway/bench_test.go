package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkSyncInvoke is what the gateway adds to a call that waits: HTTP over
// loopback, door, wake-up and answer; the function itself takes no time.
func BenchmarkSyncInvoke(b *testing.B) {
	w := newWorld(b, nil)
	srv := httptest.NewServer(w.g)
	defer srv.Close()
	client := srv.Client()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Post(srv.URL+"/v1/functions/echo/invoke", asJSON, strings.NewReader(`{"n":1}`))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp.StatusCode, err)
		}
		resp.Body.Close()
	}
}
