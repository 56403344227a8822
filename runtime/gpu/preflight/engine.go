package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

const (
	containerdAt = "run/containerd/containerd.sock"
	dockerAt     = "run/docker.sock"

	installToolkit = "install nvidia-container-toolkit (deploy/gpu-host.md, step 3)"
	configure      = "nvidia-ctk runtime configure --runtime=docker, then systemctl restart docker: it looks for the toolkit only when it starts"
	generate       = "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
)

// toolkit looks for the programs that put a GPU into a container.
func (c *checks) toolkit(ctx context.Context) (string, error) {
	parts := []string{"nvidia-ctk", "nvidia-container-runtime-hook", "nvidia-container-cli"}
	var have, lack []string
	for _, p := range parts {
		if c.has(p) {
			have = append(have, p)
		} else {
			lack = append(lack, p)
		}
	}
	c.hook = c.has("nvidia-container-runtime-hook") && c.has("nvidia-container-cli")
	switch {
	case len(have) == 0:
		return "", fail(installToolkit, "none of %s is in PATH", strings.Join(parts, ", "))
	case !slices.Contains(have, "nvidia-ctk"):
		return "", fail(installToolkit, "%s is missing from PATH", strings.Join(lack, ", "))
	case len(lack) > 0:
		return "", warn("install nvidia-container-toolkit whole; with the -base package alone only CDI works", "%s is missing from PATH: docker run --gpus needs it", strings.Join(lack, ", "))
	}
	version, err := c.Output(ctx, "nvidia-ctk", "--version")
	if err != nil {
		return "", fail("install nvidia-container-toolkit again: apt-get install --reinstall nvidia-container-toolkit nvidia-container-toolkit-base", "nvidia-ctk does not run: %v", err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(version), "\n")
	return first, nil
}

// engine asks whether Docker is there. A machine without it, whose containers
// containerd runs, needs CDI alone.
func (c *checks) engine(ctx context.Context) (string, error) {
	found, err := c.Engine.Probe(ctx)
	if err == nil {
		c.up = true
		return found, nil
	}
	c.viaCDI = true
	if c.exists(containerdAt) && !c.exists(dockerAt) {
		return "", skip("this machine has containerd and no Docker")
	}
	return "", fail("install Docker Engine and start it (systemctl start docker); this user must be allowed to use its socket", "%v", reason(err))
}

// reason is what went wrong, without the words of the classes.
func reason(err error) string {
	if e, ok := errors.AsType[*functions.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

// handsOut asks Docker what it knows of GPUs.
func (c *checks) handsOut(ctx context.Context) (string, error) {
	if !c.up {
		return "", skip("Docker does not answer")
	}
	var err error
	if c.support, err = c.Engine.GPUSupport(ctx); err != nil {
		c.up = false
		return "", fail("read Docker's log: journalctl -u docker", "Docker does not say what it can: %v", reason(err))
	}
	runtime := slices.Contains(c.support.Runtimes, "nvidia")
	gpus := len(slices.DeleteFunc(slices.Clone(c.support.CDI), func(id string) bool { return !strings.HasPrefix(id, "nvidia.com/gpu=") }))
	c.viaCDI = gpus > 0 && major(c.support.Version) >= byCDI
	switch {
	case runtime && gpus > 0:
		return fmt.Sprintf("Docker %s has the runtime nvidia, and %d names of devices from CDI", c.support.Version, gpus), nil
	case runtime:
		return "Docker " + c.support.Version + " has the runtime nvidia", nil
	case c.viaCDI:
		return fmt.Sprintf("Docker %s has %d names of devices from CDI", c.support.Version, gpus), nil
	case c.hook:
		return "", warn(configure, "Docker %s has no runtime nvidia and knows no GPU by CDI; if it was started after the toolkit was installed, --gpus works all the same", c.support.Version)
	}
	return "", fail(installToolkit+"; then "+configure, "Docker %s has no runtime nvidia and does not give GPUs by CDI", c.support.Version)
}

// byCDI is the first Docker that gives GPUs to containers by CDI where it can:
// moby/moby#50228. Those before need the toolkit's hook for what is asked of them.
const byCDI = 29

func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}

// reload is about a trap of systemd: with its cgroup driver, every daemon-reload
// takes from running containers the devices that systemd was not told of.
func (c *checks) reload(context.Context) (string, error) {
	switch {
	case !c.up:
		return "", skip("Docker does not answer")
	case c.support.CgroupDriver == "systemd" && !c.viaCDI:
		return "", warn(`set "exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json and restart Docker, or upgrade to Docker 29 and have a CDI specification`,
			"Docker's cgroup driver is systemd: systemctl daemon-reload takes the GPUs from containers that run")
	}
	return "Docker's cgroup driver is " + c.support.CgroupDriver, nil
}

// specification holds the CDI specifications against the GPUs that were read and
// the files that are there.
func (c *checks) specification(context.Context) (string, error) {
	found, err := c.CDI()
	if err != nil && len(found) == 0 { // one that is broken harms no other
		return "", fail(generate, "%v", err)
	}
	if len(found) == 0 {
		if c.up && !c.viaCDI {
			return "", skip("there is none; Docker does without, containerd and oci need it: %s", generate)
		}
		return "", fail(generate, "neither /etc/cdi nor /var/run/cdi has a CDI specification of NVIDIA GPUs")
	}
	names := map[string]bool{}
	for _, f := range found {
		names[f.Name] = true
		if len(f.Missing) > 0 {
			return "", fail(generate, "%s is stale: %s brings %s, which is not here", f.File, f.Name, f.Missing[0])
		}
	}
	if c.reading.Status != probe.OK {
		return "", skip("no GPU can be read to hold %s against", found[0].File)
	}
	byIndex := 0
	for _, d := range c.reading.Devices {
		switch {
		case d.MIG || names[d.UUID]:
		case d.Parent == "" && names[fmt.Sprint(d.Index)]:
			byIndex++ // of this reading; it may be another one's after a restart
		default:
			return "", fail(generate, "%s is stale: it names no %s", found[0].File, d.UUID)
		}
	}
	if byIndex > 0 {
		return fmt.Sprintf("%s names each GPU, %d by number alone", found[0].File, byIndex), nil
	}
	return found[0].File + " names each GPU by its UUID", nil
}
