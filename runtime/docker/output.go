package docker

import (
	"context"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// The pauses between two questions to an engine that does not answer.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// attach opens the container's streams. The client cannot break off a request
// of this kind, so a stuck engine is left to a goroutine that ends with it.
func (d *Driver) attach(ctx context.Context, id runtime.ID) (*types.HijackedResponse, error) {
	type answer struct {
		conn types.HijackedResponse
		err  error
	}
	opened := make(chan answer, 1)
	go func() {
		conn, err := d.engine.ContainerAttach(ctx, string(id), container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
		opened <- answer{conn, err}
	}()
	select {
	case a := <-opened:
		if a.err != nil {
			return nil, a.err
		}
		return &a.conn, nil
	case <-ctx.Done():
		go func() {
			if a := <-opened; a.err == nil {
				a.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// follow copies a container's output in the background: from conn, which was
// attached before the start, or from the engine's log when conn is nil. It goes
// on when ctx ends, because the container does.
func (d *Driver) follow(ctx context.Context, id runtime.ID, conn *types.HijackedResponse, streams runtime.Streams) {
	ctx, done := d.outputs.Begin(context.WithoutCancel(ctx), id)
	go func() {
		defer done()
		stdout, stderr := &tap{to: streams.Stdout}, &tap{to: streams.Stderr}
		if conn != nil && d.copyAttached(ctx, id, conn, streams.Stdin, stdout, stderr) {
			return
		}
		d.copyLogged(ctx, id, stdout, stderr)
	}()
}

// settleTime is how long after the end of its streams a container may take to
// be seen as exited. One that takes longer has closed its streams by itself.
const settleTime = 2 * time.Second

// copyAttached feeds stdin and copies the attached streams to their end. It
// reports whether that was all: when the engine went away, it was not.
func (d *Driver) copyAttached(ctx context.Context, id runtime.ID, conn *types.HijackedResponse, stdin []byte, stdout, stderr *tap) bool {
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		if len(stdin) > 0 {
			conn.Conn.Write(stdin) // a container that does not read it has its reasons
		}
		conn.CloseWrite()
	}()
	unblock := context.AfterFunc(ctx, conn.Close)
	defer unblock()
	_, err := stdcopy.StdCopy(stdout, stderr, conn.Reader)
	conn.Close()
	<-fed
	if ctx.Err() != nil {
		return true
	}
	settled, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	_, gone := d.wait(settled, id)
	return err == nil && gone == nil || errdefs.IsNotFound(gone)
}

// copyLogged copies what the engine's log has and the taps have not, until the
// container has exited.
func (d *Driver) copyLogged(ctx context.Context, id runtime.ID, stdout, stderr *tap) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		stdout.rewind()
		stderr.rewind()
		logs, err := d.engine.ContainerLogs(ctx, string(id), container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: true})
		if err == nil {
			_, err = stdcopy.StdCopy(stdout, stderr, logs)
			logs.Close()
			if err == nil {
				_, err = d.wait(ctx, id)
			}
		}
		if err == nil || errdefs.IsNotFound(err) || !functions.Sleep(ctx, pause) {
			return
		}
	}
}

// tap passes a stream on and remembers how far it came, so that a replay from
// the beginning passes on nothing twice. A writer that is nil or fails gets
// nothing more; the stream flows on, or the container would block.
type tap struct {
	to     io.Writer
	at     int64 // of the replay
	passed int64
}

func (t *tap) rewind() { t.at = 0 }

func (t *tap) Write(p []byte) (int, error) {
	old := min(max(t.passed-t.at, 0), int64(len(p)))
	t.at += int64(len(p))
	if fresh := p[old:]; len(fresh) > 0 {
		t.passed = t.at
		if t.to != nil {
			if _, err := t.to.Write(fresh); err != nil {
				t.to = nil
			}
		}
	}
	return len(p), nil
}
