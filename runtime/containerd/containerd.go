// Package containerd runs containers on containerd, 1.6 to 2.x, the one under
// Docker included: without Docker's own daemon on the way, and with starts that
// can be called off. Everything lives in a namespace of its own.
//
// A container comes to life in launch.go and to its end in wait.go; what it may
// do is in package ocispec, where images come from in pull.go. Process 1 of each is the
// entry program, which feeds it standard input from a file; another copy of it,
// started by containerd, keeps its output. So a container needs neither the
// agent nor containerd to run on.
package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/flight"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cgroups"
	"github.com/spillway/spillway/runtime/ocispec"
	"github.com/spillway/spillway/runtime/outputs"
)

var _ runtime.Driver = (*Driver)(nil)

// Config says which containerd to use and what it is given.
type Config struct {
	Address   string // its socket; empty = /run/containerd/containerd.sock
	Namespace string // of containers and images; empty = spillway

	// StateDir holds what belongs to a container beside containerd's own: its
	// input, its output. A driver that is opened on it again takes up what runs.
	StateDir string
	Program  string // path of the entry program on this machine

	// Snapshotter keeps the file systems; empty = overlayfs where it is usable,
	// else native.
	Snapshotter string
	Source      Source   // of images that are not there; nil = none
	CDIDirs     []string // where devices are described; nil = the standard ones

	// HostNetwork gives containers with network egress the host's network. There
	// is no other way to give them one: without it they are refused.
	HostNetwork bool
	Log         *slog.Logger // nil discards
}

// Source gives images to containerd that it does not have.
type Source interface {
	// Archive opens an archive of an image, as docker save or an OCI layout has
	// it. An image that the source does not have is functions.ErrNotFound.
	Archive(ctx context.Context, image string, progress func(runtime.PullProgress)) (io.ReadCloser, error)
}

// Driver runs containers on one containerd. Close it when it is no longer used.
type Driver struct {
	cfg     Config
	engine  *client.Client
	cgroups cgroups.Groups
	seccomp *specs.LinuxSeccomp // of every container
	log     *slog.Logger

	alive   context.Context // ends with Close; what it does in the background lives in it
	stop    context.CancelFunc
	work    sync.WaitGroup
	pulls   flight.Group[runtime.PullProgress]
	outputs outputs.Set

	mu          sync.Mutex // guards the fields below
	snapshotter string     // empty until it was asked for
	creating    map[runtime.ID]bool
	reaping     map[runtime.ID]chan struct{} // each is closed when the container's task is deleted
}

const (
	defaultAddress   = "/run/containerd/containerd.sock"
	defaultNamespace = "spillway"
	runcRuntime      = "io.containerd.runc.v2"
)

// reconnect is how the connection comes back after containerd was away: soon,
// because containers run on meanwhile.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 5 * time.Second,
}

// New returns a driver. It does not talk to containerd yet: see Probe.
func New(c Config) (*Driver, error) {
	c.Address = strings.TrimPrefix(cmp.Or(c.Address, defaultAddress), "unix://")
	c.Namespace = cmp.Or(c.Namespace, defaultNamespace)
	for name, path := range map[string]string{"its socket": c.Address, "the state folder": c.StateDir, "the entry program": c.Program} {
		if !filepath.IsAbs(path) {
			return nil, functions.Invalid("bad_containerd_path", "containerd: the path of %s is %q, not absolute", name, path)
		}
	}
	groups, err := cgroups.Find()
	if err != nil {
		return nil, err
	}
	filter, err := ocispec.Seccomp()
	if err != nil {
		return nil, fmt.Errorf("make the filter of system calls: %w", err)
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder of containers: %w", err)
	}
	engine, err := client.New(c.Address,
		client.WithDefaultNamespace(c.Namespace), client.WithDefaultRuntime(runcRuntime),
		client.WithExtraDialOpts([]grpc.DialOption{
			grpc.WithConnectParams(reconnect),
			// The client's own dialer waits for a socket that is not there.
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", c.Address)
			}),
		}))
	if err != nil {
		return nil, functions.Invalid("bad_engine_address", "cannot use containerd at %s", c.Address).WithCause(err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	alive, stop := context.WithCancel(context.Background())
	return &Driver{
		alive: alive, stop: stop,
		cfg: c, engine: engine, cgroups: groups, seccomp: filter, log: c.Log.With("component", "containerd"), snapshotter: c.Snapshotter,
		creating: map[runtime.ID]bool{}, reaping: map[runtime.ID]chan struct{}{},
	}, nil
}

// Close stops copying output and lets go of containerd. Containers run on.
func (d *Driver) Close() error {
	d.stop()
	d.work.Wait()
	return d.engine.Close()
}

// Name implements runtime.Driver.
func (d *Driver) Name() string { return "containerd" }

// Probe implements runtime.Driver.
func (d *Driver) Probe(ctx context.Context) (string, error) {
	if err := checkProgram(d.cfg.Program); err != nil {
		return "", err
	}
	if err := checkSocket(ctx, d.cfg.Address); err != nil {
		return "", err
	}
	ctx = d.in(ctx)
	version, err := d.engine.Version(ctx)
	if err != nil {
		return "", translateError("ask containerd for its version", err)
	}
	if tooOld(version.Version) {
		return "", functions.Unavailable("engine_too_old", "containerd at %s is %s; 1.6 is the oldest that serves", d.cfg.Address, version.Version).
			WithHint("install containerd 1.6 or newer on the node, or use the docker driver")
	}
	snapshotter, err := d.useSnapshotter(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("containerd %s, %s, namespace %s, %s, cgroup %s", version.Version, d.cfg.Address, d.cfg.Namespace,
		snapshotter, d.cgroups), nil
}

// checkProgram says what is wrong with the entry program.
func checkProgram(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 == 0o111 {
		return nil
	}
	if err == nil {
		err = errors.New("it is not a file that everybody may execute")
	}
	return functions.Unavailable("entry_program_missing", "the entry program %s cannot be used", path).
		WithHint("install Spillway's entry program there, with mode 0755").WithCause(err)
}

// checkSocket says why containerd cannot be reached, in words that name the fix.
func checkSocket(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
	switch {
	case err == nil:
		return conn.Close()
	case ctx.Err() != nil:
		return translateError("reach containerd", ctx.Err())
	case errors.Is(err, os.ErrNotExist):
		return unreachable(err).WithHint("there is no socket %s: install and start containerd, or say where its socket is", address)
	case errors.Is(err, os.ErrPermission):
		return unreachable(err).WithHint("the socket %s may be opened by root alone: run Spillway as root", address)
	}
	return unreachable(err)
}

// oldest is the first version whose API has all that is used here.
var oldest = [2]int{1, 6}

// tooOld reads versions such as v1.6.20, 1.6.20~ds1 and 2.4.2+unknown. One that
// it cannot read is a build from source, and not old.
func tooOld(version string) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return false
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		return false
	}
	return major < oldest[0] || major == oldest[0] && minor < oldest[1]
}

// in puts the driver's namespace on a request.
func (d *Driver) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, d.cfg.Namespace)
}
