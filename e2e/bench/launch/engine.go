package launch

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// loadIntoDocker makes the image present, and returns what removes it.
func loadIntoDocker(ctx context.Context, img *Image) (func() error, error) {
	if _, err := program("docker"); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		return nil, skip("the Docker engine does not answer (%s)", strings.TrimSpace(string(out)))
	}
	if _, err := command(ctx, "docker", "load", "-q", "-i", img.Archive); err != nil {
		return nil, err
	}
	return func() error {
		// Another way of the same run may have removed it.
		_, err := command(context.WithoutCancel(ctx), "docker", "image", "rm", "-f", img.Ref)
		return err
	}, nil
}

func dockerCLI(ctx context.Context, _ string, img *Image) (*Peer, error) {
	unload, err := loadIntoDocker(ctx, img)
	if err != nil {
		return nil, err
	}
	args := []string{
		"docker", "run", "--rm", "--network", "none", "--memory", bytesOf(memory), "--cpus", fmt.Sprint(cpus),
		"--pids-limit", fmt.Sprint(pids), "--user", "65532:65532", "--read-only", img.Ref,
	}
	return &Peer{
		Version: version(ctx, "docker", "version", "--format", "client {{.Client.Version}}, engine {{.Server.Version}}"),
		Once:    func(ctx context.Context) (time.Duration, error) { return command(ctx, args...) },
		Close:   unload,
	}, nil
}

// dockerAPI makes the three calls that a launch needs at least, and the removal
// that follows.
func dockerAPI(ctx context.Context, _ string, img *Image) (*Peer, error) {
	unload, err := loadIntoDocker(ctx, img)
	if err != nil {
		return nil, err
	}
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, errors.Join(err, unload())
	}
	limit := int64(pids)
	host := &container.HostConfig{
		NetworkMode: "none", ReadonlyRootfs: true,
		Resources: container.Resources{Memory: int64(memory), MemorySwap: int64(memory), NanoCPUs: cpus * 1e9, PidsLimit: &limit},
	}
	once := func(ctx context.Context) (took time.Duration, err error) {
		began := time.Now()
		made, err := c.ContainerCreate(ctx, &container.Config{Image: img.Ref, User: "65532:65532", Labels: map[string]string{"spillway.bench": "1"}}, host, nil, nil, "")
		if err != nil {
			return 0, err
		}
		defer func() {
			err = errors.Join(err, c.ContainerRemove(context.WithoutCancel(ctx), made.ID, container.RemoveOptions{Force: true}))
		}()
		exited, failed := c.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
		if err := c.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
			return 0, err
		}
		select {
		case end := <-exited:
			if end.StatusCode != 0 {
				return 0, fmt.Errorf("the container exited with %d", end.StatusCode)
			}
		case err := <-failed:
			return 0, err
		}
		return time.Since(began), nil
	}
	return &Peer{Once: once, Version: c.ClientVersion(), Close: func() error { return errors.Join(unload(), c.Close()) }}, nil
}

// podman runs with a root of its own, on runc and plain cgroups: its defaults
// (crun, systemd) need a machine of one cgroup layout.
func podman(ctx context.Context, dir string, img *Image) (*Peer, error) {
	if _, err := program("podman"); err != nil {
		return nil, err
	}
	var failed []string
	for _, storage := range []string{"overlay", "vfs"} {
		base := []string{
			"podman", "--root", dir + "/podman-" + storage, "--runroot", dir + "/podman-run-" + storage, "--tmpdir", dir + "/podman-tmp-" + storage,
			"--storage-driver", storage, "--cgroup-manager", "cgroupfs", "--runtime", "runc", "--events-backend", "none",
		}
		run := append(base[:len(base):len(base)], "run", "--rm", "--network", "none", "--memory", bytesOf(memory), "--cpus", fmt.Sprint(cpus),
			"--pids-limit", fmt.Sprint(pids), "--user", "65532:65532", "--read-only", "--pull", "never", "--log-driver", "none",
			"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", // its own may be more than this process may give
			img.Ref)
		// All of Podman's own is below its root; mounts of it would keep the folder.
		closing := func() error {
			_, err := command(context.WithoutCancel(ctx), append(base[:len(base):len(base)], "rmi", "-a", "-f")...)
			return errors.Join(err, unmountBelow(dir+"/podman-"))
		}
		_, err := command(ctx, append(base[:len(base):len(base)], "load", "-q", "-i", img.Archive)...)
		if err == nil {
			_, err = command(ctx, run...)
		}
		if err != nil {
			failed = append(failed, storage+": "+err.Error())
			_ = closing() // what did not start has nothing that must go
			continue
		}
		return &Peer{
			Version: version(ctx, "podman", "--version") + ", " + storage + ", runc",
			Once:    func(ctx context.Context) (time.Duration, error) { return command(ctx, run...) }, Close: closing,
		}, nil
	}
	return nil, skip("podman cannot run a container here (%s)", strings.Join(failed, "; "))
}
