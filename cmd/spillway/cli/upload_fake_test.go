package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// TestMain keeps what uploads remember out of the user's own cache.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "spillway-cli-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = os.Setenv("XDG_CACHE_HOME", dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// cloud is a gateway and a store in one, which hands out one signed request per
// try, checks what comes, and fails where a test wants it to.
type cloud struct {
	t        *testing.T
	srv      *httptest.Server
	partSize int64 // 0 = single PUT
	home     string

	// fault may answer the nth request for a part (0 = the whole file) instead.
	fault func(w http.ResponseWriter, r *http.Request, part, nth int) bool

	mu     sync.Mutex
	begun  int
	id     string
	state  string
	name   string
	size   int64
	sums   map[string]string // signature to the SHA-256 that it is for
	parts  map[int][]byte
	puts   map[int]int // requests for each part
	cut    int         // how many of the gateway's next answers are cut off
	forget bool        // of the next completion: the store has lost part 1
}

func newCloud(t *testing.T, partSize int64) *cloud {
	c := &cloud{t: t, partSize: partSize, home: t.TempDir(), sums: map[string]string{}, parts: map[int][]byte{}, puts: map[int]int{}}
	c.srv = httptest.NewServer(c)
	t.Cleanup(c.srv.Close)
	return c
}

// run runs a command against the cloud, with a cache of its own.
func (c *cloud) run(args ...string) said {
	c.t.Helper()
	return runAs(c.t, App{Getenv: func(name string) string {
		return map[string]string{"SPILLWAY_URL": c.srv.URL, "XDG_CACHE_HOME": c.home}[name]
	}}, args...)
}

// remembered lists the files that the command left in its cache.
func (c *cloud) remembered() []string {
	c.t.Helper()
	left, err := filepath.Glob(filepath.Join(c.home, "spillway", "uploads", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	return left
}

func (c *cloud) content() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all bytes.Buffer
	for n := range len(c.parts) {
		all.Write(c.parts[n+1])
	}
	all.Write(c.parts[0])
	return all.Bytes()
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/store" {
		c.put(w, r)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut > 0 {
		c.cut--
		panic(http.ErrAbortHandler)
	}
	switch r.Method + " " + strings.Replace(r.URL.Path, c.id, "ID", min(len(c.id), 1)) {
	case "POST /v1/uploads":
		var ask struct {
			Name   string
			Size   int64
			SHA256 string
		}
		_ = json.NewDecoder(r.Body).Decode(&ask)
		c.begun++
		c.id, c.name, c.size, c.state = "up"+strconv.Itoa(c.begun), ask.Name, ask.Size, "awaiting_upload"
		clear(c.parts)
		w.WriteHeader(http.StatusCreated)
		c.show(w)
	case "GET /v1/uploads/ID":
		c.show(w)
	case "POST /v1/uploads/ID/parts":
		var ask struct {
			Parts []struct {
				Number int
				SHA256 string
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&ask)
		signed := []any{}
		for _, p := range ask.Parts {
			signed = append(signed, c.sign(p.Number, p.SHA256))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"parts": signed})
	case "POST /v1/uploads/ID/complete":
		var got int64
		if c.forget {
			c.forget = false
			delete(c.parts, 1)
		}
		for _, b := range c.parts {
			got += int64(len(b))
		}
		if got != c.size {
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"code":"parts_missing","detail":"parts 1 are missing"}`))
			return
		}
		c.state = "succeeded"
		fallthrough
	case "GET /v1/tasks/ID":
		fmt.Fprintf(w, `{"id":%q,"status":%q}`, c.id, c.state)
	default:
		http.Error(w, `{"code":"no_such_upload","detail":"nothing there"}`, http.StatusNotFound)
	}
}

func (c *cloud) show(w io.Writer) {
	v := map[string]any{"id": c.id, "state": c.state, "name": c.name, "size": c.size, "function": "f"}
	switch {
	case c.state != "awaiting_upload":
	case c.partSize == 0:
		v["upload"] = c.sign(0, "")
	default:
		received := []functions.Part{}
		for n, b := range c.parts {
			received = append(received, functions.Part{Number: n, Size: int64(len(b)), SHA256: hexSum(b)})
		}
		v["multipart"] = map[string]any{"part_size": c.partSize, "checksums": true, "received": received}
	}
	_ = json.NewEncoder(w).Encode(v)
}

func (c *cloud) sign(part int, sum string) map[string]any {
	sig := strconv.Itoa(len(c.sums) + 1)
	c.sums[sig] = sum
	return map[string]any{
		"number": part, "method": "PUT", "url": fmt.Sprintf("%s/store?part=%d&sig=%s", c.srv.URL, part, sig),
		"headers": map[string]string{"X-Signed": sig}, "expires_at": time.Now().Add(time.Minute),
	}
}

func (c *cloud) put(w http.ResponseWriter, r *http.Request) {
	part, _ := strconv.Atoi(r.URL.Query().Get("part"))
	sig := r.URL.Query().Get("sig")
	c.mu.Lock()
	c.puts[part]++
	nth := c.puts[part]
	sum, known := c.sums[sig]
	delete(c.sums, sig) // one try each: a second needs a fresh one
	c.sums["used "+sig] = ""
	c.mu.Unlock()
	switch {
	case !known || r.Header.Get("X-Signed") != sig:
		refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
		return
	case r.Header.Get("Authorization") != "":
		refuse(w, http.StatusBadRequest, "InvalidRequest")
		return
	case c.fault != nil && c.fault(w, r, part, nth):
		return
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if sum != "" && sum != hexSum(b) {
		refuse(w, http.StatusBadRequest, "BadDigest")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts[part] = b
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// sendFile makes a file of n bytes that have no period.
func sendFile(t *testing.T, n int) (path string, data []byte) {
	t.Helper()
	data = make([]byte, 0, n+64)
	for i := 0; len(data) < n; i++ {
		data = base64.StdEncoding.AppendEncode(data, fmt.Append(nil, i, " bytes"))
	}
	path = filepath.Join(t.TempDir(), "clip.mov")
	if err := os.WriteFile(path, data[:n], 0o600); err != nil {
		t.Fatal(err)
	}
	return path, data[:n]
}
