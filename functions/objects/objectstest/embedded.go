package objectstest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/embedded"
	"github.com/spillway/spillway/functions/objects/miniotest"
)

// childEnv holds the child's configuration as JSON; its presence makes a test
// binary that calls Main an embedded store.
const childEnv = "SPILLWAY_TEST_EMBEDDED"

// child is what a store process is told.
type child struct {
	Root, Addr, CertFile, KeyFile, Origin string
	SideCar                               bool
}

// Main is called by TestMain of a package that uses Embedded: it runs the tests,
// or, in the child that Embedded starts, the store. The store changes the
// working directory and allows one instance per process, hence the child.
func Main(m *testing.M) int {
	config := os.Getenv(childEnv)
	if config == "" {
		return m.Run()
	}
	if err := serve(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serve(config string) error {
	var c child
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return fmt.Errorf("read %s: %w", childEnv, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ready := make(chan struct{})
	go func() { // ends with the process at the latest
		<-ready
		fmt.Fprintln(os.Stderr, "ready")
	}()
	return embedded.Run(ctx, embedded.Config{
		Root: c.Root, Addr: c.Addr, AccessKey: miniotest.AccessKey, SecretKey: miniotest.SecretKey,
		CertFile: c.CertFile, KeyFile: c.KeyFile, SideCar: c.SideCar, PublicOrigin: c.Origin, Ready: ready,
	})
}

// EmbeddedOptions change how an embedded store is started.
type EmbeddedOptions struct {
	Root    string // empty = a folder of the test
	Origin  string // web origin that may call
	TLS     bool
	SideCar bool
}

// Embedded starts an embedded store in a child of the test binary, whose
// TestMain calls Main, and returns once it listens. It ends with the test.
func Embedded(t testing.TB, o EmbeddedOptions) *Server {
	t.Helper()
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	c := child{Root: o.Root, Addr: miniotest.FreeAddr(t), Origin: o.Origin, SideCar: o.SideCar}
	s := &Server{Endpoint: "http://" + c.Addr, Kind: KindEmbedded, done: make(chan struct{})}
	if o.TLS {
		c.CertFile, c.KeyFile, s.RootCAs = certificate(t)
		s.Endpoint, s.Kind, s.certFile = "https://"+c.Addr, KindEmbeddedTLS, c.CertFile
	}
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Dir = o.Root
	s.cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stdout = &s.Stdout
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 64)
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig: see miniotest.Start
		defer close(s.done)
		defer close(said)
		err := s.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			select {
			case said <- lines.Text():
			default: // nobody listens any more
			}
		}
		_ = s.cmd.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatalf("start the embedded store: %v", err)
	}
	t.Cleanup(s.Kill)
	for line := range said {
		if line == "ready" {
			return s
		}
		t.Log("embedded store:", line)
	}
	t.Fatal("the embedded store ended before it listened")
	return nil
}

// New returns a client of the server.
func (s *Server) New(t testing.TB) *objects.Store {
	t.Helper()
	st, err := objects.New(objects.Config{
		Endpoint: s.Endpoint, AccessKey: s.accessKey(), SecretKey: s.secretKey(), RootCAs: s.RootCAs,
		Embedded: s.Kind != KindMinIO && s.Kind != KindOther,
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}
