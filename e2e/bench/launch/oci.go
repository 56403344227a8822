package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
)

// bundle writes what an OCI runtime is started with: the image's files in a
// folder, read-only, and new namespaces of every kind but that of users.
func bundle(dir string, img *Image) (string, error) {
	type object = map[string]any
	namespaces := []object{}
	for _, kind := range []string{"pid", "network", "ipc", "uts", "mount"} {
		namespaces = append(namespaces, object{"type": kind})
	}
	config, err := json.Marshal(object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": 65532, "gid": 65532}, "args": Entrypoint, "env": []string{"PATH=/"}, "cwd": "/", "noNewPrivileges": true,
		},
		"root": object{"path": img.Rootfs, "readonly": true}, "hostname": "box",
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		"linux": object{
			"namespaces": namespaces,
			"resources": object{
				"memory": object{"limit": int64(memory)}, "cpu": object{"quota": cpus * 100000, "period": 100000}, "pids": object{"limit": pids},
			},
			"maskedPaths":   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600)
}

func runc(ctx context.Context, dir string, img *Image) (*Peer, error) {
	return runtimePeer(ctx, "runc", dir, img, func(cmd *exec.Cmd) error { return cmd.Start() }, func() error { return nil })
}

// crun refuses a machine that has cgroup v1 and v2 side by side, so it runs
// where the mount of v2 is not seen.
func crun(ctx context.Context, dir string, img *Image) (*Peer, error) {
	if _, err := program("crun"); err != nil {
		return nil, err
	}
	const second = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(second + "/cgroup.controllers"); err != nil {
		return runtimePeer(ctx, "crun", dir, img, func(cmd *exec.Cmd) error { return cmd.Start() }, func() error { return nil })
	}
	o, err := newOutpost(second)
	if err != nil {
		return nil, err
	}
	return runtimePeer(ctx, "crun", dir, img, o.start, o.close)
}

// runtimePeer launches through an OCI runtime, started in the given way.
func runtimePeer(ctx context.Context, name, dir string, img *Image, start func(*exec.Cmd) error, closing func() error) (*Peer, error) {
	path, err := program(name)
	if err != nil {
		return nil, errors.Join(err, closing())
	}
	b, err := bundle(filepath.Join(dir, name), img)
	if err != nil {
		return nil, errors.Join(err, closing())
	}
	root := filepath.Join(dir, name+"-root")
	var n atomic.Int64
	once := func(ctx context.Context) (time.Duration, error) {
		id := fmt.Sprintf("spillway-bench-%s-%d-%d", name, os.Getpid(), n.Add(1))
		cmd := exec.CommandContext(ctx, path, "--root", root, "run", "--bundle", b, id)
		took, err := timed(cmd, func() error { return start(cmd) })
		if err != nil {
			// Of a run that was cut short, nothing may stay.
			remove := exec.Command(path, "--root", root, "delete", "-f", id)
			_, _ = timed(remove, func() error { return start(remove) })
		}
		return took, err
	}
	return &Peer{Version: version(ctx, path, "--version"), Once: once, Close: closing}, nil
}
