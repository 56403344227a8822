// Package miniotest runs a real MinIO server for one test, as a child process
// on a free loopback port.
package miniotest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/functions/objects"
)

// Keys of every server that Start starts.
const (
	AccessKey = "spillwaytest"
	SecretKey = "spillway-test-secret"
)

// startLimit is how long a server may take to answer; on two busy cores it
// takes a few seconds.
const startLimit = 60 * time.Second

// Options change how a server is started.
type Options struct {
	Env  []string // added to the child's environment, such as MINIO_NOTIFY_WEBHOOK_...
	Dir  string   // holds the objects; empty = a folder of the test
	Addr string   // of a server that was here before; empty = a free one
}

// Server is a running MinIO.
type Server struct {
	Endpoint string // http://127.0.0.1:port
	Store    *objects.Store
	Dir      string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
}

// Binary finds the server: SPILLWAY_MINIO_BIN, then .cache/minio/minio of this
// module, then PATH. Without one the test is skipped, or fails when
// REQUIRE_MINIO=1.
func Binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("SPILLWAY_MINIO_BIN"); bin != "" {
		return bin
	}
	if _, here, _, ok := runtime.Caller(0); ok {
		bin := filepath.Join(filepath.Dir(here), "..", "..", "..", ".cache", "minio", "minio")
		if _, err := os.Stat(bin); err == nil {
			return bin
		}
	}
	if bin, err := exec.LookPath("minio"); err == nil {
		return bin
	}
	const why = "no MinIO server: run deploy/minio/build.sh, or set SPILLWAY_MINIO_BIN"
	if os.Getenv("REQUIRE_MINIO") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
	return ""
}

// Start runs a server until the test ends, and returns once it answers a signed
// request.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	bin := Binary(t)
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	addr := o.Addr
	if addr == "" {
		addr = FreeAddr(t)
	}
	s := &Server{Endpoint: "http://" + addr, Dir: o.Dir, done: make(chan struct{})}
	var err error
	if s.Store, err = objects.New(objects.Config{Endpoint: s.Endpoint, AccessKey: AccessKey, SecretKey: SecretKey}); err != nil {
		t.Fatal(err)
	}
	out := &output{}
	s.cmd = exec.Command(bin, "server", "--quiet", "--address", addr, o.Dir)
	s.cmd.Dir = o.Dir
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"MINIO_ROOT_USER=" + AccessKey, "MINIO_ROOT_PASSWORD=" + SecretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}, o.Env...)
	started := make(chan error, 1)
	go func() {
		// Pdeathsig fires when the thread that started the child ends, so that
		// thread waits here for as long as the child lives.
		runtime.LockOSThread()
		defer close(s.done)
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", bin, err)
	}
	t.Cleanup(s.Kill)
	s.awaitReady(t, out)
	return s
}

// awaitReady asks with signed requests: MinIO's own health page says ready before
// its S3 side is.
func (s *Server) awaitReady(t testing.TB, out *output) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := s.Store.Ready(ctx)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-s.done:
			t.Fatalf("minio ended: %v\n%s", s.cmd.ProcessState, out)
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			t.Fatalf("minio does not answer after %s: %v\n%s", startLimit, err, out)
		}
	}
}

// Kill ends the server at once, as a crash would. Killing it twice is no error.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// WebhookEnv is the environment that makes MinIO report to url under the target
// name, with a bearer token. With a queue folder reports survive an absent
// receiver and come within three seconds; without one they come at once or never.
func WebhookEnv(name, url, token, queueDir string) []string {
	env := []string{
		"MINIO_NOTIFY_WEBHOOK_ENABLE_" + name + "=on",
		"MINIO_NOTIFY_WEBHOOK_ENDPOINT_" + name + "=" + url,
		"MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_" + name + "=" + token,
	}
	if queueDir != "" {
		env = append(env, "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_"+name+"="+queueDir)
	}
	return env
}

// WebhookARN is the address of that target in a bucket's notification rules.
func WebhookARN(name string) string { return "arn:minio:sqs::" + name + ":webhook" }

// FreeAddr is a loopback address that nobody listened on a moment ago.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// output keeps the first 64 KiB of what the child said.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := 64<<10 - o.buf.Len(); room > 0 {
		o.buf.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("its output:\n%s", o.buf.String())
}
