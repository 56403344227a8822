// Package registrytest is an image registry in the test's own process, which can
// be made to fail.
package registrytest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Config says how a registry behaves. The zero value is a healthy one without
// credentials, on plain HTTP.
type Config struct {
	Username, Password string // empty = anybody may pull
	TLS                bool
}

// Registry is a registry on a loopback port. It ends with the test.
type Registry struct {
	Addr string // host:port, which image names begin with

	cfg    Config
	server *httptest.Server
	next   http.Handler

	mu      sync.Mutex // guards the fields below
	fetched map[string]int
	faults  Faults
	cut     int
}

// Faults are what goes wrong with blobs, for everybody but Push.
type Faults struct {
	Status int           // every request is answered so; 0 = as it should be
	Cut    int           // this many blobs over 4 KiB break off in the middle; < 0 = all
	Delay  time.Duration // before each half of a blob
	Hold   chan struct{} // blobs wait until it is closed; nil = they do not
}

// New starts a registry.
func New(t testing.TB, c Config) *Registry {
	t.Helper()
	r := &Registry{cfg: c, fetched: map[string]int{}, next: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0) // transfers that break off
	if c.TLS {
		r.server.StartTLS()
	} else {
		r.server.Start()
	}
	t.Cleanup(r.server.Close)
	r.Addr = r.server.Listener.Addr().String()
	return r
}

// Transport is how a client reaches the registry: it trusts its certificate. Its
// connections end with the test.
func (r *Registry) Transport(t testing.TB) http.RoundTripper {
	own := &http.Transport{}
	if r.cfg.TLS {
		pool := x509.NewCertPool()
		pool.AddCert(r.server.Certificate())
		own.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	t.Cleanup(own.CloseIdleConnections)
	return own
}

// Push stores an image, or one for several platforms, and returns its whole name.
func (r *Registry) Push(t testing.TB, repoTag string, what remote.Taggable) string {
	t.Helper()
	ref, err := name.NewTag(r.Addr + "/" + repoTag)
	if err != nil {
		t.Fatal(err)
	}
	options := []remote.Option{remote.WithTransport(r.Transport(t)), remote.WithContext(t.Context())}
	if r.cfg.Username != "" {
		options = append(options, remote.WithAuth(&authn.Basic{Username: r.cfg.Username, Password: r.cfg.Password}))
	}
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(ref, what, options...)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, what, options...)
	default:
		t.Fatalf("%T is nothing to push", what)
	}
	if err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	return ref.String()
}

// SetFaults makes the registry fail from now on; the zero value heals it.
func (r *Registry) SetFaults(f Faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults, r.cut = f, 0
}

// Fetched is how often each blob was asked for, by digest.
func (r *Registry) Fetched() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]int{}
	for k, n := range r.fetched {
		all[k] = n
	}
	return all
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if user, password, _ := req.BasicAuth(); r.cfg.Username != "" && (user != r.cfg.Username || password != r.cfg.Password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	_, digest, blob := strings.Cut(req.URL.Path, "/blobs/")
	f := r.begin(req.Method, digest, blob)
	if f.Status != 0 {
		w.WriteHeader(f.Status)
		return
	}
	if !blob || req.Method != http.MethodGet {
		r.next.ServeHTTP(w, req)
		return
	}
	if f.Hold != nil {
		select {
		case <-f.Hold:
		case <-req.Context().Done():
			return
		}
	}
	r.next.ServeHTTP(&faulty{ResponseWriter: w, delay: f.Delay, cut: r.cuts}, req)
}

// begin counts a request and says what goes wrong with it.
func (r *Registry) begin(method, digest string, blob bool) Faults {
	r.mu.Lock()
	defer r.mu.Unlock()
	if blob && method == http.MethodGet {
		r.fetched[digest]++
	}
	return r.faults
}

// cuts reports whether a blob of n bytes breaks off.
func (r *Registry) cuts(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= 4096 || r.faults.Cut >= 0 && r.cut >= r.faults.Cut {
		return false
	}
	r.cut++
	return true
}

// faulty is an answer that comes late, or breaks off.
type faulty struct {
	http.ResponseWriter
	delay time.Duration
	cut   func(n int) bool
}

// Write implements io.Writer.
func (f *faulty) Write(p []byte) (int, error) {
	half := len(p) / 2
	time.Sleep(f.delay)
	n, err := f.ResponseWriter.Write(p[:half])
	if err != nil {
		return n, err
	}
	if f.cut(len(p)) {
		if flusher, ok := f.ResponseWriter.(http.Flusher); ok {
			flusher.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	time.Sleep(f.delay)
	more, err := f.ResponseWriter.Write(p[half:])
	return n + more, err
}
