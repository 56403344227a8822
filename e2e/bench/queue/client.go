package queue

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/e2e/harness"
)

// client is a program that carries out commands, one JSON line each.
type client struct {
	daemon *harness.Daemon
	in     io.WriteCloser
	out    *bufio.Reader
	log    string // file of its standard error

	mu sync.Mutex // one command at a time
}

func startClient(cmd *exec.Cmd, log string) (*client, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	words, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer words.Close()
	cmd.Stderr = words
	daemon, err := harness.StartDaemon(cmd)
	if err != nil {
		return nil, err
	}
	return &client{daemon: daemon, in: in, out: bufio.NewReader(out), log: log}, nil
}

// do sends one command and reads its answer. A context that ends ends the program.
func (c *client) do(ctx context.Context, command Command) (Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var a Answer
	stop := context.AfterFunc(ctx, c.daemon.Kill)
	defer stop()
	if err := json.NewEncoder(c.in).Encode(command); err != nil {
		return a, c.died(err)
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return a, c.died(err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("read an answer: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// died adds the program's last words to an error.
func (c *client) died(err error) error {
	words, _ := os.ReadFile(c.log) // the error itself is what matters
	lines := strings.Split(strings.TrimSpace(string(words)), "\n")
	return fmt.Errorf("the driver of the queue ended: %w: %s", err, lines[len(lines)-1])
}

// close ends the program: its input ends, and so does it.
func (c *client) close() error {
	err := c.in.Close()
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case <-c.daemon.Ended():
	case <-timer.C:
		c.daemon.Kill()
	}
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// startModule builds the drivers of the Go queues below dir, and starts one.
func startModule(ctx context.Context, dir, module string, args ...string) (*client, error) {
	bin := filepath.Join(dir, "peers")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin, ".")
	build.Dir = module
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, skip("its driver in %s does not build, maybe for want of its modules (%s)", module, lastLine(out))
	}
	return startClient(exec.Command(bin, args...), filepath.Join(dir, "client.log"))
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
