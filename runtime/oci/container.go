package oci

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// The files of a container's folder that only the driver reads, beside those
// that it shares with the monitor.
const (
	fileRecord  = "record.json"
	fileConfig  = "config.json" // where OCI runtimes look for it
	fileRemoved = "removed"     // there once the container is to go
	dirState    = "state"       // the OCI runtime's own, in the self-test
)

// record is what a container is, for a driver that finds its folder.
type record struct {
	Name    string            `json:"name,omitempty"`
	Image   string            `json:"image"`
	ImageID string            `json:"image_id"`
	Labels  map[string]string `json:"labels,omitempty"`
	Trial   bool              `json:"trial,omitempty"` // of the self-test: nobody will ask for it again
}

func (r record) carries(labels map[string]string) bool {
	for k, v := range labels {
		if r.Labels[k] != v {
			return false
		}
	}
	return true
}

func readRecord(dir string) (record, error) {
	var r record
	text, err := os.ReadFile(filepath.Join(dir, fileRecord))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// life is where a container stands. It only moves down this list: created,
// starting, then running or failed, and from running to exited. One that was
// found with its monitor counts as running until its record says otherwise.
type life int

const (
	created life = iota
	starting
	running
	exited
	failed // its start failed
)

// container is one that this driver knows.
type container struct {
	id      runtime.ID
	dir     string
	group   string // its cgroup, below every hierarchy's root
	record  record
	release func() // lets go of the image's layers

	up       chan struct{} // closed when it runs
	over     chan struct{} // closed when it has exited, or its start has failed
	attended chan struct{} // closed when its monitor is gone too

	mu      sync.Mutex // guards the fields below
	life    life
	exit    runtime.Exit
	failure string // why the start failed, in the runtime's words
	watch   *watch // nil before the start
}

func newContainer(id runtime.ID, dir, group string, r record, release func()) *container {
	return &container{
		id: id, dir: dir, group: group, record: r, release: sync.OnceFunc(release),
		up: make(chan struct{}), over: make(chan struct{}), attended: make(chan struct{}),
	}
}

func (c *container) state() runtime.ContainerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.life {
	case running:
		return runtime.Up
	case exited:
		return runtime.Exited
	}
	return runtime.Created
}

// begin moves a container on to starting, which can be once.
func (c *container) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life != created {
		return functions.Conflict("already_started", "container %s was started before", c.id)
	}
	c.life = starting
	return nil
}

func (c *container) runs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life = running
	close(c.up)
}

// fails ends a start that came to nothing.
func (c *container) fails(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life, c.failure = failed, why
	close(c.over)
}

func (c *container) exits(e runtime.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life, c.exit = exited, e
	close(c.over)
}

// standing returns where the container stands, and who watches it.
func (c *container) standing() (life, *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.life, c.watch
}

// abandon stops watching, and lets go of the layers, as the end of the process
// does: the container runs on, and the next driver holds them again.
func (c *container) abandon() {
	defer c.release()
	if _, w := c.standing(); w != nil {
		w.abandon()
	}
}

// readExit reads the record of the exit; os.ErrNotExist means that there is none.
func readExit(dir string) (wire.Exit, error) {
	text, err := os.ReadFile(filepath.Join(dir, wire.FileExit))
	if err != nil {
		return wire.Exit{}, err
	}
	e, err := wire.ParseExit(text)
	if err != nil {
		return wire.Exit{}, fmt.Errorf("read the record of an exit: %w", err)
	}
	return e, nil
}

func exitOf(e wire.Exit) runtime.Exit {
	return runtime.Exit{
		Code: e.Code, OOMKilled: e.OOMKilled,
		StartedAt: time.Unix(0, e.StartedAt), FinishedAt: time.Unix(0, max(e.StartedAt, e.FinishedAt)),
	}
}

// info describes a container in a list.
func (c *container) info() runtime.Info {
	return runtime.Info{ID: c.id, Name: c.record.Name, Labels: maps.Clone(c.record.Labels), State: c.state()}
}
