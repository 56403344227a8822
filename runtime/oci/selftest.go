package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// Probe implements runtime.Driver. The first call runs the self-test.
func (d *Driver) Probe(ctx context.Context) (string, error) {
	r, err := d.pick(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("oci: %s, cgroup %s, overlay", r.name, d.cgroups), nil
}

// SelfTest runs one container and checks that it starts, that it is isolated and
// limited, and that nothing of it is left. Its error says what to do.
func (d *Driver) SelfTest(ctx context.Context) error {
	r, err := d.pick(ctx)
	if err != nil {
		return err
	}
	if _, err := d.try(ctx, r); err != nil {
		return unusable(d.cgroups, err)
	}
	return nil
}

const (
	trialMemory = 48 * functions.MiB
	trialTime   = 30 * time.Second
)

// try runs the self-test with one OCI runtime, in a container that is empty but
// for the entry program. It returns the seccomp filter that the runtime compiled,
// if it leaves one.
func (d *Driver) try(ctx context.Context, r *ociRuntime) (filter []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	spec := runtime.Spec{Entrypoint: []string{wire.Program, wire.RoleFacts}, Memory: trialMemory}
	c, err := d.write(r, newID(), spec, runtime.Image{}, []string{filepath.Join(d.config.Dir, dirEmpty)}, record{Trial: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	err = d.observe(ctx, r, c)
	if err == nil {
		filter, err = os.ReadFile(filepath.Join(c.dir, dirState, string(c.id), fileFilter))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	later, done := context.WithTimeout(context.WithoutCancel(ctx), buryTime)
	defer done()
	err = errors.Join(err, d.end(later, c), d.bury(later, string(c.id), c.group))
	if left, _ := d.cgroups.List(c.group); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("cgroups are left: %v", left))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	return filter, nil
}

// observe runs the container of the self-test and reads what it says of itself.
func (d *Driver) observe(ctx context.Context, r *ociRuntime, c *container) error {
	var stdout, stderr bytes.Buffer
	if err := d.start(ctx, r, c, runtime.Streams{Stdout: &stdout, Stderr: &stderr}); err != nil {
		return fmt.Errorf("start a container: %w", err)
	}
	exit, err := d.wait(ctx, c)
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return fmt.Errorf("a container exits with %d: %s", exit.Code, strings.TrimSpace(stderr.String()))
	}
	limit, err := d.cgroups.MemoryLimit(c.group)
	if err != nil {
		return fmt.Errorf("read a container's memory limit: %w", err)
	}
	if limit != int64(trialMemory) {
		return fmt.Errorf("the memory limit of a container is %d, not %d", limit, trialMemory)
	}
	return isolated(stdout.String())
}

// isolated checks what the program of the self-test says of itself.
func isolated(facts string) error {
	have := map[string]string{}
	for line := range strings.Lines(facts) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		have[name] = value
	}
	uid, _, _ := strings.Cut(runtime.DefaultUser, ":")
	for _, want := range []struct{ name, value string }{
		{"parent", "1"}, {"uid", uid}, {"Groups", ""}, {"CapEff", "0000000000000000"}, {"CapBnd", "0000000000000000"},
		{"NoNewPrivs", "1"}, {"Seccomp", "2"}, {"interfaces", "lo"}, {"root", "readonly"},
	} {
		if got := have[want.name]; got != want.value {
			return fmt.Errorf("a container is not isolated: its %s is %q, not %q", want.name, got, want.value)
		}
	}
	return nil
}
