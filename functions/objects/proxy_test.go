package objects_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/functions/objects/objectstest"
)

// A public name in front of the store works as long as the proxy passes the
// Host that was signed; a proxy that writes its own breaks every signature.
func TestASignedRequestPassesAProxyThatKeepsTheHost(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) string{
		"embedded": func(t *testing.T) string { return objectstest.Embedded(t, objectstest.EmbeddedOptions{}).Endpoint },
		"minio":    func(t *testing.T) string { return miniotest.Start(t, miniotest.Options{}).Endpoint },
	} {
		t.Run(name, func(t *testing.T) {
			internal := start(t)
			target, err := url.Parse(internal)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				name  string
				host  func(*httputil.ProxyRequest)
				works bool
			}{
				{"kept", func(p *httputil.ProxyRequest) { p.Out.Host = p.In.Host }, true},
				{"rewritten", func(p *httputil.ProxyRequest) { p.Out.Host = target.Host }, false},
			} {
				proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
					p.SetURL(target)
					c.host(p)
				}})
				t.Cleanup(proxy.Close)
				s, err := objects.New(objects.Config{
					Endpoint: internal, PublicEndpoint: proxy.URL, AccessKey: miniotest.AccessKey, SecretKey: miniotest.SecretKey,
					Embedded: name == "embedded",
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.EnsureBucket(t.Context(), "uploads"); err != nil {
					t.Fatal(err)
				}
				body := bytes.Repeat([]byte("x"), 100_000)
				ref := functions.ObjectRef{Bucket: "uploads", Key: "in/" + c.name, Size: int64(len(body)), ContentType: "image/png"}
				put, err := s.PresignPut(t.Context(), ref, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				ref.Key += "-parts"
				id, err := s.NewMultipart(t.Context(), ref, false)
				if err != nil {
					t.Fatal(err)
				}
				part, err := s.PresignPart(t.Context(), ref, id, 1, ref.Size, "", time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				for kind, p := range map[string]functions.PresignedRequest{"put": put, "part": part} {
					status := sendThrough(t, proxy.Client(), p, body)
					if wanted := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[c.works]; status != wanted {
						t.Errorf("host %s, %s: got %d, want %d", c.name, kind, status, wanted)
					}
				}
			}
		})
	}
}

func sendThrough(t *testing.T, client *http.Client, p functions.PresignedRequest, body []byte) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), p.Method, p.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range p.Headers {
		if k != "Content-Length" { // the transport sets it from the body
			req.Header.Set(k, v)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
