package images

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/spillway/spillway/functions"
)

// DockerCLI is the Docker engine behind the docker command, with whatever
// context and host the command is set up for.
type DockerCLI struct {
	Path string // of the command; empty means docker, found in PATH
}

// Has implements Engine.
func (d DockerCLI) Has(ctx context.Context, ref, label, value string) (bool, error) {
	out, err := d.run(ctx, nil, "images", "--quiet", "--filter", "reference="+ref, "--filter", "label="+label+"="+value)
	return strings.TrimSpace(out) != "", err
}

// Load implements Engine.
func (d DockerCLI) Load(ctx context.Context, write func(io.Writer) error) error {
	r := pipe(write)
	defer r.Close()
	_, err := d.run(ctx, r, "load", "--quiet")
	return err
}

func (d DockerCLI) run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	path := d.Path
	if path == "" {
		path = "docker"
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err := cmd.Run(); err != nil {
		if said := strings.TrimSpace(errs.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return "", functions.Unavailable("docker_failed", "docker %s did not succeed", args[0]).
			WithHint("see that `docker info` works for this user").WithCause(err)
	}
	return out.String(), nil
}
