// Package oci runs containers without a daemon: it executes an OCI runtime, crun
// or runc, over root file systems that it mounts itself.
//
// A container is a folder below Config.Dir: the OCI configuration, its record,
// its output, and the record of its exit. Beside each one that runs stands a
// monitor, a role of the entry program, which outlives the agent: it starts the
// OCI runtime, keeps the output, and writes down the exit. So an agent that
// starts again finds everything in the folders. The root file system is mounted
// in the monitor's own mount namespace and goes with it: the host's table of
// mounts never shows it, and nothing needs to be unmounted. Whatever restarts the
// agent must leave the monitors alone: systemd needs KillMode=process.
//
// The life of a container is in container.go; create.go, start.go, wait.go and
// remove.go hold its steps, adopt.go what a new agent does first. What a container
// may do is in package ocispec.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cgroups"
	"github.com/spillway/spillway/runtime/ocispec"
	"github.com/spillway/spillway/runtime/outputs"
)

var _ runtime.Driver = (*Driver)(nil)

// Images gives unpacked images.
type Images interface {
	Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error
	Image(ctx context.Context, image string) (runtime.Image, error)
	Images(ctx context.Context) ([]runtime.Image, error)
	RemoveImage(ctx context.Context, image string) error
	// Layers returns the folders of the image's unpacked layers, lowest first, and
	// keeps them until release is called.
	Layers(ctx context.Context, image string) (dirs []string, release func(), err error)
}

// Config says where containers are kept and what runs them.
type Config struct {
	// Dir is this driver's alone, and absolute. Nothing in it needs to outlive a
	// reboot: in memory (below /run) launches are the quickest.
	Dir     string
	Logs    string // folder of the containers' output, which Spec.LogSize bounds; empty = in Dir
	Program string // the entry program on the host, where containers can be given it
	Images  Images `json:"-"`

	Runtime     string       // path of crun or runc; empty = whichever of the two works
	Cgroup      string       // parent of the containers' cgroups; empty = spillway
	CDIDirs     []string     // of CDI specifications; nil = none, so that no GPU can be had
	HostNetwork bool         // give containers with network egress the host's network, loopback included
	Log         *slog.Logger `json:"-"` // nil discards
}

// Driver runs containers on this machine. Close it when it is no longer used.
type Driver struct {
	config  Config
	cgroups cgroups.Groups
	group   string // the parent of this driver's cgroups
	ready   *readiness
	seccomp *specs.LinuxSeccomp
	lock    *os.File
	outputs outputs.Set
	reaping sync.WaitGroup // removals and monitors being attended

	picking sync.Mutex // guards picked
	picked  *ociRuntime

	mu         sync.Mutex // guards the fields below
	containers map[runtime.ID]*container
	names      map[string]runtime.ID
}

// The folders of a driver.
const (
	dirContainers = "containers"
	dirDead       = "dead" // containers that are removed but not yet gone, or not yet whole
	dirLogs       = "logs"
	dirEmpty      = "empty"   // the root file system of the self-test
	dirRoot       = "rootfs"  // where every monitor mounts a root file system, each in its namespace
	dirScratch    = "scratch" // where it mounts its memory-backed layer
	fileLock      = "lock"
	fileHosts     = "hosts"
	hosts         = "127.0.0.1 localhost\n::1 localhost\n"
)

// Open takes up what an earlier driver left in the folder: containers that run
// go on, and what belongs to none is removed. A folder that another driver uses
// is ErrConflict.
func Open(ctx context.Context, c Config) (*Driver, error) {
	if c.Logs == "" {
		c.Logs = filepath.Join(c.Dir, dirLogs)
	}
	for _, path := range []string{c.Dir, c.Program, c.Logs} {
		if !filepath.IsAbs(path) {
			return nil, functions.Invalid("bad_path", "%q is not an absolute path", path)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "oci")
	err := os.MkdirAll(c.Logs, 0o700)
	for _, dir := range []string{dirContainers, dirDead, dirEmpty, dirRoot, dirScratch} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(c.Dir, dir), 0o700))
	}
	if err != nil {
		return nil, fmt.Errorf("make the containers' folders: %w", err)
	}
	err = os.WriteFile(filepath.Join(c.Dir, fileHosts), []byte(hosts), 0o644)
	if err = errors.Join(err, os.Chmod(filepath.Join(c.Dir, fileHosts), 0o644)); err != nil { // whatever the umask is
		return nil, fmt.Errorf("write the containers' hosts: %w", err)
	}
	lock, err := awaitLock(ctx, filepath.Join(c.Dir, fileLock))
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, functions.Conflict("folder_in_use", "another process runs containers from %s", c.Dir).
			WithHint("stop it, or give this one a folder of its own")
	}
	if err != nil {
		return nil, fmt.Errorf("lock the containers' folder: %w", err)
	}
	d := &Driver{config: c, lock: lock, containers: map[runtime.ID]*container{}, names: map[string]runtime.ID{}}
	if err := d.prepare(ctx); err != nil {
		d.ready.close()
		lock.Close()
		return nil, err
	}
	return d, nil
}

// prepare reads what the machine has, then what an earlier driver left.
func (d *Driver) prepare(ctx context.Context) error {
	var err error
	if d.cgroups, err = cgroups.Find(); err != nil {
		return err
	}
	d.group = groupOf(d.config.Cgroup, d.config.Dir)
	d.ready = newReadiness(d.cgroups)
	if d.seccomp, err = ocispec.Seccomp(); err != nil {
		return fmt.Errorf("make the seccomp profile: %w", err)
	}
	return d.adopt(ctx)
}

// Close stops copying output and lets go of the containers, which run on. It
// waits until what was removed is gone.
func (d *Driver) Close() error {
	d.outputs.Close()
	d.mu.Lock()
	for _, c := range d.containers {
		c.abandon()
	}
	d.mu.Unlock()
	d.reaping.Wait()
	d.ready.close()
	d.picking.Lock()
	if d.picked != nil {
		d.picked.close()
	}
	d.picking.Unlock()
	if left, err := d.cgroups.List(d.group); err == nil && len(left) == 0 {
		if err := d.cgroups.Remove(d.group); err != nil {
			d.config.Log.Debug("cgroup stays", "err", err)
		}
	}
	return d.lock.Close()
}

// Name implements runtime.Driver.
func (d *Driver) Name() string { return "oci" }

// Pull implements runtime.Driver.
func (d *Driver) Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	return d.config.Images.Pull(ctx, image, progress)
}

// Image implements runtime.Driver.
func (d *Driver) Image(ctx context.Context, image string) (runtime.Image, error) {
	return d.config.Images.Image(ctx, image)
}

// Images implements runtime.Driver.
func (d *Driver) Images(ctx context.Context) ([]runtime.Image, error) {
	return d.config.Images.Images(ctx)
}

// RemoveImage implements runtime.Driver.
func (d *Driver) RemoveImage(ctx context.Context, image string) error {
	img, err := d.config.Images.Image(ctx, image)
	switch {
	case errors.Is(err, functions.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	d.mu.Lock()
	var user runtime.ID
	for id, c := range d.containers {
		if c.record.ImageID == img.ID {
			user = id
		}
	}
	d.mu.Unlock()
	if user != "" && len(img.Names) <= 1 {
		return functions.Conflict("image_in_use", "image %s is used by container %s", image, user)
	}
	return d.config.Images.RemoveImage(ctx, image)
}

// List implements runtime.Driver.
func (d *Driver) List(ctx context.Context, labels map[string]string) ([]runtime.Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var infos []runtime.Info
	for _, c := range d.containers {
		if c.record.carries(labels) {
			infos = append(infos, c.info())
		}
	}
	return infos, nil
}

// Usage implements runtime.Driver.
func (d *Driver) Usage(_ context.Context, id runtime.ID) (runtime.Usage, error) {
	c, err := d.find(id)
	if err != nil {
		return runtime.Usage{}, err
	}
	usage, err := d.cgroups.Usage(c.group)
	if errors.Is(err, fs.ErrNotExist) { // it never started
		return runtime.Usage{}, nil
	}
	if err != nil {
		return runtime.Usage{}, fmt.Errorf("read what container %s uses: %w", id, err)
	}
	return usage, nil
}

func (d *Driver) find(id runtime.ID) (*container, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.containers[id]; c != nil {
		return c, nil
	}
	return nil, runtime.ContainerMissing(id)
}
