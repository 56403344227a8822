package embedded_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects/embedded"
)

// stderrOf returns what f's work printed on standard error: the library tells
// nobody else that a stop came to its limit.
func stderrOf(t *testing.T, f func()) string {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	old := os.Stderr
	os.Stderr = file
	f()
	os.Stderr = old
	said, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// Connections that carry no request do not keep the store from stopping.
func TestStopDoesNotWaitForIdleConnections(t *testing.T) {
	st, endpoint, stop := run(t, embedded.Config{Root: t.TempDir()})
	addr := strings.TrimPrefix(endpoint, "http://")
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// It is served after those were accepted, and its connection is kept alive.
	if err := st.EnsureBucket(t.Context(), "uploads"); err != nil {
		t.Fatal(err)
	}
	said := stderrOf(t, func() {
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if said != "" {
		t.Errorf("the stop said %q", said)
	}
}

func TestStopFinishesAnUploadInFlight(t *testing.T) {
	root := t.TempDir()
	st, endpoint, stop := run(t, embedded.Config{Root: root})
	if err := st.EnsureBucket(t.Context(), "uploads"); err != nil {
		t.Fatal(err)
	}
	// Its first part is more than all buffers on the way hold, so that the store
	// is writing the object once that is gone.
	first := strings.Repeat("spillway", 4<<20)
	body := first + "end"
	ref := functions.ObjectRef{Bucket: "uploads", Key: "in/flight", Size: int64(len(body))}
	signed, err := st.PresignPut(t.Context(), ref, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	sent, more := make(chan struct{}), make(chan struct{})
	r := io.MultiReader(strings.NewReader(first), &held{sent: sent, more: more, r: strings.NewReader("end")})
	req, err := http.NewRequestWithContext(t.Context(), signed.Method, signed.URL, r)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range signed.Headers {
		req.Header.Set(k, v)
	}
	req.ContentLength = int64(len(body))
	client := http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	answer := make(chan error, 1)
	go func() {
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.Join(err, errors.New(resp.Status))
			}
		}
		answer <- err
	}()
	<-sent
	stopped := make(chan error, 1)
	said := stderrOf(t, func() {
		go func() { stopped <- stop() }()
		for { // until it stops
			c, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "http://"))
			if err != nil {
				break
			}
			c.Close()
		}
		close(more)
		if err := <-answer; err != nil {
			t.Errorf("upload: %v", err)
		}
		if err := <-stopped; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if said != "" {
		t.Errorf("the stop said %q", said)
	}
	st, _, _ = run(t, embedded.Config{Root: root})
	if got, err := st.Stat(t.Context(), "uploads", "in/flight", ""); err != nil || got.Size != int64(len(body)) {
		t.Errorf("stored are %d bytes, %v, want %d", got.Size, err, len(body))
	}
}

// held is r once more is closed. It closes sent when it is asked first, after
// what came before it is sent.
type held struct {
	sent chan<- struct{} // nil = closed
	more <-chan struct{}
	r    io.Reader
}

func (h *held) Read(p []byte) (int, error) {
	if h.sent != nil {
		close(h.sent)
		h.sent = nil
	}
	<-h.more
	return h.r.Read(p)
}
