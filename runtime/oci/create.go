package oci

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cdi"
	"github.com/spillway/spillway/runtime/entry/wire"
	"github.com/spillway/spillway/runtime/ocispec"
)

// How much may be written above an image's layers, before the container runs:
// mountpoints, and what the hooks of CDI make, such as the linker's cache.
const (
	room      = 16 << 20
	roomHooks = 256 << 20
)

// Create implements runtime.Driver. It writes the container's folder.
func (d *Driver) Create(ctx context.Context, spec runtime.Spec) (runtime.ID, error) {
	c, err := d.create(ctx, spec)
	if err != nil {
		return "", &runtime.LaunchError{Stage: runtime.StageCreate, Message: err.Error(), Err: err}
	}
	return c.id, nil
}

func (d *Driver) create(ctx context.Context, spec runtime.Spec) (_ *container, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	program, err := d.pick(ctx)
	if err != nil {
		return nil, err
	}
	img, err := d.config.Images.Image(ctx, spec.Image)
	if err != nil {
		return nil, err
	}
	layers, release, err := d.config.Images.Layers(ctx, spec.Image)
	if err != nil {
		return nil, err
	}
	undo := release
	defer func() {
		if err != nil {
			undo()
		}
	}()
	id := newID()
	if err := d.reserve(spec.Name, id); err != nil {
		return nil, err
	}
	undo = func() { release(); d.unreserve(spec.Name) }
	r := record{Name: spec.Name, Image: spec.Image, ImageID: img.ID, Labels: spec.Labels}
	c, err := d.write(program, id, spec, img, layers, r)
	if err != nil {
		return nil, err
	}
	c.release = sync.OnceFunc(release)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers[id] = c
	return c, nil
}

// newID names a container in its folder, its cgroup and its host name.
func newID() runtime.ID { return runtime.ID(strings.ToLower(rand.Text()[:20])) }

func (d *Driver) reserve(name string, id runtime.ID) error {
	if name == "" {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[name] != "" {
		return runtime.NameInUse(name)
	}
	d.names[name] = id
	return nil
}

func (d *Driver) unreserve(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, name)
}

// write makes a container's folder. It is whole or not there: it is made under
// another name first, which no driver takes for a container.
func (d *Driver) write(program *ociRuntime, id runtime.ID, s runtime.Spec, img runtime.Image, layers []string, r record) (*container, error) {
	dir := filepath.Join(d.config.Dir, dirContainers, string(id))
	c := newContainer(id, dir, filepath.Join(d.group, string(id)), r, func() {})
	spec, err := ocispec.New(s, img, d.place(s, c))
	if err != nil {
		return nil, err
	}
	if err := cdi.Inject(spec, d.config.CDIDirs, cdi.Devices(s)); err != nil {
		return nil, err
	}
	spec.Annotations = map[string]string{annotationHooks: filepath.Join(dir, fileHooks)}
	if program.filter != "" {
		spec.Linux.Seccomp = nil
		spec.Annotations[annotationFilter] = program.filter
	}
	// Nobody asks the OCI runtime for its state again, so it is in the monitor's
	// memory and goes with it; but of the self-test's something is read.
	state := filepath.Join(d.config.Dir, dirScratch, dirState)
	if r.Trial {
		state = filepath.Join(dir, dirState)
	}
	launch := wire.Launch{
		Argv: program.argv(dir, state, id), Root: filepath.Join(d.config.Dir, dirRoot), Scratch: filepath.Join(d.config.Dir, dirScratch), Layers: layers,
		Room: room, Hide: d.cgroups.Hide(), Memory: d.cgroups.Memory(c.group),
		Log: d.logFile(id), LogSize: int64(s.WithDefaults().LogSize),
	}
	if spec.Hooks != nil {
		launch.Room = roomHooks
	}
	orders, err := launch.Append(nil)
	if err != nil {
		return nil, functions.Invalid("bad_path", "a path of container %s cannot be written down", id).WithCause(err)
	}
	config, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	own, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	fresh := filepath.Join(d.config.Dir, dirDead, string(id))
	err = os.Mkdir(fresh, 0o700)
	for name, text := range map[string][]byte{wire.FileLaunch: orders, fileConfig: config, fileRecord: own} {
		err = errors.Join(err, os.WriteFile(filepath.Join(fresh, name), text, 0o600))
	}
	if err == nil {
		err = os.Mkdir(filepath.Dir(launch.Log), 0o700)
	}
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(fresh), os.RemoveAll(filepath.Dir(launch.Log)))
	}
	return c, nil
}

func (d *Driver) logFile(id runtime.ID) string {
	return filepath.Join(d.config.Logs, string(id), "log")
}

// place is what the container gets beside what its spec says.
func (d *Driver) place(s runtime.Spec, c *container) ocispec.Place {
	p := ocispec.Place{
		Hostname: string(c.id), Root: filepath.Join(d.config.Dir, dirRoot), Cgroup: "/" + c.group, Init: []string{wire.Program, wire.RoleInit, "--"},
		Seccomp: d.seccomp, HostNetwork: d.config.HostNetwork, SwapLimit: d.cgroups.SwapLimit(),
		Mounts: []runtime.Mount{
			{Source: filepath.Join(d.config.Dir, fileHosts), Target: "/etc/hosts", ReadOnly: true},
			{Source: d.config.Program, Target: wire.Program, ReadOnly: true},
		},
	}
	const resolv = "/etc/resolv.conf"
	if _, err := os.Stat(resolv); err == nil && s.Network == functions.NetworkEgress {
		p.Mounts = append(p.Mounts, runtime.Mount{Source: resolv, Target: resolv, ReadOnly: true})
	}
	return p
}

// groupOf names the parent of a driver's cgroups: drivers with folders of their
// own must not take each other's containers for leftovers.
func groupOf(parent, dir string) string {
	if parent == "" {
		parent = "spillway"
	}
	sum := sha256.Sum256([]byte(filepath.Clean(dir)))
	return filepath.Join(parent, hex.EncodeToString(sum[:4]))
}
