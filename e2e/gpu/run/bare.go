package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// bare measures the model outside of containers, where they cannot run: on a
// rented machine that is a container itself, for one. The program and its
// libraries are unpacked from the image.
func (j *job) bare(ctx context.Context) error {
	root, err := j.unpack(ctx)
	if err != nil {
		return err
	}
	var on place
	if _, err := j.speak(ctx, root, functions.GPU, &on, "where"); err != nil {
		return err
	}
	j.report.check("none", "CUDA work outside of containers", on.Device == "gpu" && on.Error < closeEnough, "%s %s; its arithmetic differs from the CPU's by %.2g", on.Name, on.UUID, on.Error)
	return j.rows(ctx, func(model string, seconds float64) (listener, error) {
		return func(device functions.Policy) (heard, error) {
			on := functions.CPU
			if device == functions.Required {
				on = functions.GPU
			}
			var h heard
			took, err := j.speak(ctx, root, on, &h, "transcribe", model, fmt.Sprint(seconds))
			h.run = took.Seconds()
			return h, err
		}, nil
	})
}

// unpack makes the file tree of the image speech, without owners.
func (j *job) unpack(ctx context.Context) (root string, err error) {
	archive, root := filepath.Join(j.work, "image"), filepath.Join(j.work, "root")
	if err := errors.Join(os.MkdirAll(archive, 0o755), os.MkdirAll(root, 0o755)); err != nil {
		return "", err
	}
	if out, err := j.program(ctx, "tar", "-xf", filepath.Join(j.bundle, "images", "speech.tar"), "-C", archive); err != nil {
		return "", fmt.Errorf("unpack the images: %w: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(archive, "manifest.json"))
	if err != nil {
		return "", err
	}
	var images []struct{ RepoTags, Layers []string }
	if err := json.Unmarshal(text, &images); err != nil {
		return "", fmt.Errorf("read the archive of images: %w", err)
	}
	at := slices.IndexFunc(images, func(i struct{ RepoTags, Layers []string }) bool {
		return slices.ContainsFunc(i.RepoTags, func(tag string) bool { return strings.HasSuffix(tag, "spillway/speech:latest") })
	})
	if at < 0 {
		return "", errors.New("the archive has no image speech")
	}
	for _, layer := range images[at].Layers {
		if out, err := j.program(ctx, "tar", "-xf", filepath.Join(archive, layer), "--no-same-owner", "-C", root); err != nil {
			return "", fmt.Errorf("unpack the image speech: %w: %s", err, out)
		}
	}
	return root, nil
}

// speak runs speech on a device, with the libraries of its image, and the
// driver's of this machine.
func (j *job) speak(ctx context.Context, root string, device functions.Device, into any, args ...string) (time.Duration, error) {
	libraries := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	argv := append([]string{"--library-path", strings.Join([]string{libraries, filepath.Join(libraries, "openblas-openmp"), os.Getenv("LD_LIBRARY_PATH")}, ":"),
		filepath.Join(root, "speech")}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(libraries, "ld-linux-x86-64.so.2"), argv...)
	cmd.Env = append(os.Environ(), "TASK_DEVICE="+string(device), fmt.Sprintf("OMP_NUM_THREADS=%d", cores()))
	start := time.Now()
	out, err := cmd.Output()
	took := time.Since(start)
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return took, fmt.Errorf("speech %s: %w: %s", strings.Join(args, " "), err, short(string(failed.Stderr)))
	}
	if err != nil {
		return took, err
	}
	return took, json.Unmarshal(out, into)
}
