package oci

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cgroups"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// ociRuntime is a program that makes containers from OCI configurations.
type ociRuntime struct {
	path   string
	name   string   // with its version
	sealed *os.File // of the program in sealed memory; nil = it is executed from its path
	// filter is the seccomp profile as crun has compiled it, in base64; empty = it
	// compiles it for each container, which takes half of the processor's time of a
	// launch.
	filter string
}

const (
	fileHooks        = "hooks.log"                // what hooks write to standard error
	maxHooks         = 4 << 10                    // bytes of it that an error repeats
	annotationHooks  = "run.oci.hooks.stderr"     // tells crun where; runc does it by itself
	fileFilter       = "seccomp.bpf"              // in crun's own folder of a container
	annotationFilter = "run.oci.seccomp_bpf_data" // takes the place of a profile
)

// argv is the command that makes a container, starts it and leaves it behind.
// state is where the runtime keeps what it knows of it.
func (r *ociRuntime) argv(dir, state string, id runtime.ID) []string {
	return []string{
		r.path, "--root", state, "--log", filepath.Join(dir, wire.FileRuntime), "--log-format", "json",
		"run", "--detach", "--bundle", dir, "--pid-file", filepath.Join(dir, wire.FilePID), string(id),
	}
}

var errNotInstalled = errors.New("not installed")

// find looks for a runtime and asks for its version.
func find(ctx context.Context, program string) (*ociRuntime, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, errNotInstalled) // the cause's words would be taken for those of a container
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	sealed, err := seal(path)
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(out), "\n") // "crun version 1.8.1"
	return &ociRuntime{path: path, sealed: sealed, name: strings.Replace(first, " version", "", 1)}, nil
}

// pick chooses the runtime, once: the first that passes the self-test.
func (d *Driver) pick(ctx context.Context) (*ociRuntime, error) {
	d.picking.Lock()
	defer d.picking.Unlock()
	if d.picked != nil {
		return d.picked, nil
	}
	programs := []string{"crun", "runc"}
	if d.config.Runtime != "" {
		programs = []string{d.config.Runtime}
	}
	var all error
	missing := 0
	for _, program := range programs {
		r, err := find(ctx, program)
		if errors.Is(err, errNotInstalled) {
			missing++
		}
		if err == nil {
			r, err = d.prove(ctx, r)
			if err != nil {
				r.close()
			}
		}
		if err == nil {
			d.picked = r
			return r, nil
		}
		all = errors.Join(all, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := unusable(d.cgroups, all)
	if missing == len(programs) {
		e = e.WithHint("install crun or runc on the node (apt-get install crun)")
	}
	return nil, e
}

// prove runs the self-test. A runtime that leaves its compiled seccomp filter
// behind is given it from then on, if a container with it has the same one.
func (d *Driver) prove(ctx context.Context, r *ociRuntime) (*ociRuntime, error) {
	filter, err := d.try(ctx, r)
	if err != nil || len(filter) == 0 {
		return r, err
	}
	quick := *r
	quick.filter = base64.StdEncoding.EncodeToString(filter)
	if again, err := d.try(ctx, &quick); err != nil || !bytes.Equal(filter, again) {
		d.config.Log.Debug("the seccomp filter is compiled for each container", "runtime", r.name, "err", err)
		return r, nil
	}
	return &quick, nil
}

func (r *ociRuntime) close() {
	if r.sealed != nil {
		r.sealed.Close()
	}
}

// unusable says why no runtime works, and what to do about it.
func unusable(c cgroups.Groups, err error) *functions.Error {
	e := functions.Unavailable("no_oci_runtime", "no OCI runtime works on this node (cgroup %s)", c).WithCause(err)
	if os.Geteuid() != 0 {
		return e.WithHint("run the agent as root: it mounts file systems")
	}
	return e.WithHint("see the cause; the docker and containerd runtimes do without this one")
}

// words finds what the runtime itself says of a failure: the last error of its
// log, and what a hook wrote. Without either, they are what the monitor knows.
func words(dir, known string) string {
	text, err := os.ReadFile(filepath.Join(dir, wire.FileRuntime))
	if err != nil {
		return known
	}
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "error" && entry.Msg != "" {
			known = entry.Msg
		}
	}
	if hooks, err := os.ReadFile(filepath.Join(dir, fileHooks)); err == nil && len(hooks) > 0 {
		known += ": " + strings.TrimSpace(string(hooks[:min(len(hooks), maxHooks)]))
	}
	return known
}
