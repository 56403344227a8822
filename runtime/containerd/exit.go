package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"

	"github.com/spillway/spillway/runtime"
)

// reapLimit bounds the deletion of what ran of a container.
const reapLimit = 30 * time.Second

// settle notes a container's exit and has its task deleted in the background:
// containerd holds the streams open until then, so the log of its output ends
// only then; and each task costs a shim, some 10 MB of memory. From here on the
// container's folder alone says how it ended. Of several exits the first counts.
func (d *Driver) settle(id runtime.ID, exit runtime.Exit) (runtime.Exit, error) {
	reap := d.claim(id) // before the note: who sees that waits for this
	exit, err := d.folder(id).end(exit)
	reap(err == nil)
	return exit, err
}

// claim takes the deletion of a task upon the caller, who must call what it
// returns. Somebody else's claim leaves nothing to do.
func (d *Driver) claim(id runtime.ID) (reap func(noted bool)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reaping[id] != nil {
		return func(bool) {}
	}
	done := make(chan struct{})
	d.reaping[id] = done
	return func(noted bool) {
		d.work.Go(func() {
			defer close(done)
			if noted {
				d.reap(id)
			}
		})
	}
}

func (d *Driver) reap(id runtime.ID) {
	ctx, cancel := context.WithTimeout(d.in(context.WithoutCancel(d.alive)), reapLimit)
	defer cancel()
	_, err := d.engine.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: string(id)})
	if err != nil && !errdefs.IsNotFound(native(err)) {
		d.log.Warn("what ran of a container is not deleted yet; its removal tries again", "container", id, "err", err)
	}
}

// reaped waits until no reap is under way.
func (d *Driver) reaped(ctx context.Context, id runtime.ID) error {
	d.mu.Lock()
	done := d.reaping[id]
	d.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exitNote is how a container ended, as its folder keeps it.
type exitNote struct {
	Code       int       `json:"code"`
	OOMKilled  bool      `json:"oom_killed,omitempty"`
	Lost       bool      `json:"lost,omitempty"`
	FinishedAt time.Time `json:"finished_at"`
}

// end notes the exit, unless there is a note already, and returns what is noted.
func (f folder) end(exit runtime.Exit) (runtime.Exit, error) {
	text, err := json.Marshal(exitNote{Code: exit.Code, OOMKilled: exit.OOMKilled, Lost: exit.EngineAway, FinishedAt: exit.FinishedAt})
	if err != nil {
		return runtime.Exit{}, fmt.Errorf("note the container's exit: %w", err)
	}
	temp, err := os.CreateTemp(string(f), "exit-*")
	if err != nil {
		return runtime.Exit{}, fmt.Errorf("note the container's exit: %w", err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Link(temp.Name(), f.exit()) // whole or not at all, and only once
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return runtime.Exit{}, fmt.Errorf("note the container's exit: %w", err)
	}
	noted, ok := f.ended()
	if !ok {
		return runtime.Exit{}, errors.New("the note of the container's exit cannot be read")
	}
	return noted, nil
}

// ended is how the container ended, where that is noted.
func (f folder) ended() (runtime.Exit, bool) {
	text, err := os.ReadFile(f.exit())
	if err != nil {
		return runtime.Exit{}, false
	}
	var n exitNote
	if json.Unmarshal(text, &n) != nil {
		return runtime.Exit{}, false
	}
	return runtime.Exit{Code: n.Code, OOMKilled: n.OOMKilled, EngineAway: n.Lost, StartedAt: f.startedAt(), FinishedAt: n.FinishedAt}, true
}
