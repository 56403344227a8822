package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects/miniotest"
)

// counter is a proxy that counts what clients send to an address, and can let
// no more than so much through.
type counter struct {
	addr string
	sent atomic.Int64 // bytes from clients
	most atomic.Int64 // past it, nothing is let through; 0 = all

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func startCounter(t *testing.T, to string) *counter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{addr: ln.Addr().String()}
	t.Cleanup(func() { ln.Close(); c.cut() })
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, client, server)
			c.mu.Unlock()
			go func() { _, _ = io.Copy(client, server); client.Close() }()
			go func() { _, _ = io.Copy(server, io.TeeReader(client, c)); server.Close() }()
		}
	}()
	return c
}

// Write counts, and holds the connection up once enough went through.
func (c *counter) Write(p []byte) (int, error) {
	total := c.sent.Add(int64(len(p)))
	for most := c.most.Load(); most > 0 && total > most; most = c.most.Load() {
		time.Sleep(10 * time.Millisecond)
	}
	return len(p), nil
}

// restart cuts all connections and counts anew, without a limit. It returns
// what was counted.
func (c *counter) restart() int64 {
	n := c.sent.Swap(0)
	c.cut()
	c.most.Store(0)
	return n
}

func (c *counter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// TestUploadGoesOnAfterAKill kills the command line in the middle of an upload
// and runs the same command again: it sends what the store does not have. The
// gateway sees next to nothing of the file.
func TestUploadGoesOnAfterAKill(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	ports, err := harness.FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	store, gateway := startCounter(t, ports.Store), startCounter(t, ports.Gateway)
	srv := serverWith(t, harness.Config{Ports: ports, Args: []string{"--runtime", "simulated", "--store-public", "http://" + store.addr}})
	deploySpec(t, srv, watcher(onUploaded, ""))
	client := *srv
	client.Gateway = "http://" + gateway.addr
	const part, parts, through = 16 << 20, 10, 60 << 20
	path := sparse(t, parts*part)

	store.most.Store(through)
	first, kill := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = client.CLI(first, "upload", path, "--function", onUploaded)
	}()
	var id functions.TaskID
	received := 0
	eventually(t, time.Minute, "the store has some of the parts", func() bool {
		if store.sent.Load() < through {
			return false
		}
		for _, task := range listTasks(t.Context(), t, srv) {
			id = task.ID
		}
		var session struct {
			Multipart struct{ Received []struct{ Number int } }
		}
		err := srv.JSON(t.Context(), http.MethodGet, "/v1/uploads/"+string(id), nil, &session)
		received = len(session.Multipart.Received)
		return err == nil && received > 0
	})
	kill()
	<-ended
	store.restart()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := client.CLI(ctx, "upload", path, "--function", onUploaded); err != nil {
		t.Fatalf("the second run: %v\n%s", err, out)
	}
	second := store.sent.Load()
	t.Logf("the store had %d of %d parts; the second run sent %d MiB; the gateway received %d bytes in all", received, parts, second>>20, gateway.sent.Load())
	if most := int64(parts-received)*part + part/2; second > most {
		t.Errorf("the second run sent %d bytes, want at most %d", second, most)
	}
	if n := gateway.sent.Load(); n > 256<<10 {
		t.Errorf("the gateway received %d bytes of a file that goes straight to the store", n)
	}
	tasks := listTasks(ctx, t, srv)
	if len(tasks) != 1 || tasks[0].ID != id || tasks[0].Status != string(functions.Succeeded) || tasks[0].Inputs[0].Size != parts*part {
		t.Errorf("want the one task %s to have succeeded, have %+v", id, tasks)
	}
}

// TestBigUpload sends a file that no single request may hold by the command
// line, in parts.
func TestBigUpload(t *testing.T) {
	if testing.Short() {
		t.Skip("writes gigabytes")
	}
	const size = 5 << 28 // 1.25 GiB
	for _, minio := range []bool{false, true} {
		name := map[bool]string{false: "embedded store", true: "MinIO"}[minio]
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			cfg := harness.Config{Args: []string{"--runtime", "simulated"}}
			if minio {
				store := miniotest.Start(t, miniotest.Options{})
				cfg.Args = append(cfg.Args, "--store-endpoint", store.Endpoint, "--store-access-key", miniotest.AccessKey)
				cfg.Env = []string{"SPILLWAY_STORE_SECRET_KEY=" + miniotest.SecretKey}
			}
			srv := serverWith(t, cfg)
			deploySpec(t, srv, watcher(onUploaded, ""))
			gateway := startCounter(t, strings.TrimPrefix(srv.Gateway, "http://"))
			client := *srv
			client.Gateway = "http://" + gateway.addr
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			began := time.Now()
			if out, err := client.CLI(ctx, "upload", sparse(t, size), "--function", onUploaded); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			tasks := listTasks(ctx, t, srv)
			if len(tasks) != 1 || tasks[0].Status != string(functions.Succeeded) || tasks[0].Inputs[0].Size != size {
				t.Fatalf("have %+v", tasks)
			}
			t.Logf("%d MiB to the end of the task in %s (timings %v); the gateway received %d bytes", size>>20, time.Since(began).Round(time.Second), tasks[0].Timings, gateway.sent.Load())
			if n := gateway.sent.Load(); n > 256<<10 {
				t.Errorf("the gateway received %d bytes of a file that goes straight to the store", n)
			}
		})
	}
}

// sparse makes a file of zeros that takes no room.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "big.bin")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}
