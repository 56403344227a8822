package preflight

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// label is on the container of the last step, and on no task's.
const label = "spillway.preflight"

// removeLimit bounds the removal of the container: one whose launch hangs can be
// removed only when its hook has ended.
const removeLimit = 20 * time.Second

// container starts a container with one GPU and looks from inside whether it is
// there, with nvidia-smi, which the toolkit puts into it. An image that cannot run
// that still shows whether the launch succeeds.
func (c *checks) container(ctx context.Context) (string, error) {
	if !c.up {
		return "", skip("Docker does not answer")
	}
	image, err := c.image(ctx)
	if err != nil {
		return "", err
	}
	id := c.device()
	out, exit, err := c.launch(ctx, image, id)
	if launch, ok := errors.AsType[*runtime.LaunchError](err); ok {
		class := runtime.ClassifyLaunch(launch.Message, launch.Hung, true)
		if class == functions.BadEntry { // the engine came as far as the program: the device was attached
			return "", blind(image)
		}
		return "", fail(runtime.Hint(class, launch.Message), "%s: %s", class, launch.Message)
	}
	if err != nil {
		return "", fail("read Docker's log: journalctl -u docker", "%v", err)
	}
	class := runtime.ClassifyRun(exit, true, out, false)
	switch {
	case class == "" && c.reading.Status != probe.OK && strings.Contains(out, "UUID"): // id was a guess
		return "a container of " + image + " sees " + firstLine(out), nil
	case class == "" && c.reading.Status == probe.OK && strings.Contains(out, id):
		return "a container of " + image + " sees " + id, nil
	case class == "":
		return "", fail(runtime.Hint(functions.GPUMissing, out), "%s: the container sees another device than %s: %s", functions.GPUMissing, id, firstLine(out))
	case class == functions.BadEntry:
		return "", blind(image)
	}
	return "", fail(runtime.Hint(class, out), "%s: nvidia-smi in the container ended with code %d: %s", class, exit.Code, firstLine(out))
}

// blind is the verdict on an image without a C library: the launch has succeeded.
func blind(image string) error {
	return warn("name an image with a C library to look from inside: spillway doctor --gpu --image debian:bookworm-slim",
		"the GPU was attached, and %s cannot run nvidia-smi to look at it", image)
}

// device is the GPU to ask for. Without a reading it is the first: the engine's
// refusal is then what is to be learnt.
func (c *checks) device() string {
	i := slices.IndexFunc(c.reading.Devices, func(d probe.Device) bool { return !d.MIG && !d.Lost && d.Error == "" })
	if i < 0 {
		return "0"
	}
	return c.reading.Devices[i].UUID
}

// image is the one that was named, or one that is present, best one that has a C
// library.
func (c *checks) image(ctx context.Context) (string, error) {
	if c.Image != "" {
		if err := c.Engine.Pull(ctx, c.Image, nil); err != nil {
			return "", fail("name an image that Docker has or can pull", "%s: %s", c.Image, reason(err))
		}
		return c.Image, nil
	}
	images, err := c.Engine.Images(ctx)
	if err != nil {
		return "", fail("read Docker's log: journalctl -u docker", "list the images: %s", reason(err))
	}
	var names []string
	for _, i := range images {
		names = append(names, i.Names...)
	}
	if len(names) == 0 {
		return "", skip("Docker has no image to run; name one: spillway doctor --gpu --image debian:bookworm-slim")
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return names[0], nil
}

// rank is low for images of which it is known that they have a C library.
func rank(name string) int {
	for i, known := range []string{"cuda", "debian", "ubuntu", "waveform", "media-info"} { // the last two are ours, from Debian
		if strings.Contains(name, known) {
			return i
		}
	}
	return 100
}

// launch runs nvidia-smi -L in a container that has one device, and leaves no
// trace of it.
func (c *checks) launch(ctx context.Context, image, device string) (out string, exit runtime.Exit, err error) {
	id, err := c.Engine.Create(ctx, runtime.Spec{
		Name: "spillway-preflight-" + strings.ToLower(rand.Text()), Image: image, Entrypoint: []string{"nvidia-smi"}, Command: []string{"-L"},
		GPUs: []string{device}, Labels: map[string]string{label: "doctor"},
	})
	if err != nil {
		return "", exit, err
	}
	defer func() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
		defer cancel()
		if gone := c.Engine.Remove(undo, id); gone != nil {
			err = errors.Join(err, fmt.Errorf("the container %s stays, remove it with docker rm -f: %w", id, gone))
		}
	}()
	var stdout, stderr bytes.Buffer
	start, cancel := context.WithTimeout(ctx, containerLimit/2)
	defer cancel()
	if err := c.Engine.Start(start, id, runtime.Streams{Stdout: &stdout, Stderr: &stderr}); err != nil {
		return "", exit, err
	}
	exit, err = c.Engine.Wait(ctx, id)
	return stdout.String() + stderr.String(), exit, err
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	const most = 300
	return line[:min(len(line), most)]
}
