package docker

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/client"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// Pull implements runtime.Driver. Credentials that the registry refuses, or that
// are missing, are ErrForbidden.
func (d *Driver) Pull(ctx context.Context, name string, progress func(runtime.PullProgress)) error {
	_, err := d.engine.ImageInspect(ctx, name)
	switch {
	case err == nil:
		return nil
	case !errdefs.IsNotFound(err):
		return translateError("look for image "+name, err)
	}
	return d.pulls.Do(ctx, name, progress, func(ctx context.Context, report func(runtime.PullProgress)) error {
		return d.pull(ctx, name, report)
	})
}

func (d *Driver) pull(ctx context.Context, name string, report func(runtime.PullProgress)) error {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return badName(name, err)
	}
	from := reference.Domain(ref)
	auth, err := d.credentials(from)
	if err != nil {
		return err
	}
	answer, err := d.engine.ImagePull(ctx, name, image.PullOptions{RegistryAuth: auth})
	if err == nil {
		pulling := pulling{}
		err = messages(answer, func(m message) {
			if pulling.hear(m) {
				report(pulling.progress())
			}
		})
		answer.Close()
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, client.IsErrConnectionFailed(err):
		return translateError("pull image "+name, err)
	case errdefs.IsInvalidArgument(err):
		return badName(name, err)
	case refused(err):
		return functions.Forbidden("registry_credentials", "registry %s does not give image %s to this node's credentials", from, name).
			WithHint("check the name; credentials for the registry come from `docker login %s` on the node, or from the file that SPILLWAY_NODE_REGISTRY_AUTH names", from).WithCause(err)
	case errdefs.IsNotFound(err), strings.Contains(err.Error(), "manifest unknown"):
		return runtime.ImageMissing(name).WithCause(err)
	}
	return functions.Unavailable("image_pull", "image %s is not on the node and cannot be pulled", name).
		WithHint("check that the node reaches the registry, or load the image there").WithCause(err)
}

func badName(name string, err error) error {
	return functions.Invalid("bad_image", "%q is not the name of an image", name).WithCause(err)
}

// credentials is the header with those for a registry; empty = none.
func (d *Driver) credentials(from string) (string, error) {
	if d.auth == nil {
		return "", nil
	}
	username, secret, ok, err := d.auth(from)
	if err != nil {
		return "", fmt.Errorf("credentials for registry %s: %w", from, err)
	}
	if !ok {
		return "", nil
	}
	c := registry.AuthConfig{Username: username, Password: secret, ServerAddress: from}
	if username == "<token>" {
		c = registry.AuthConfig{IdentityToken: secret, ServerAddress: from}
	}
	return registry.EncodeAuthConfig(c)
}

// refused reports whether a registry wants other credentials. Engines pass its
// words on under many status codes.
func refused(err error) bool {
	if errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) {
		return true
	}
	text := err.Error()
	for _, words := range []string{"unauthorized", "no basic auth credentials", "authentication required", "access denied", "access forbidden"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// pulling is what the engine has said of the layers of an image, by their ID.
type pulling map[string]layerPull

type layerPull struct {
	done, total functions.Bytes
	complete    bool
}

// hear takes a message, and reports whether it is news of a layer.
func (p pulling) hear(m message) bool {
	was, known := p[m.ID]
	now := was
	switch m.Status {
	case "Pulling fs layer", "Waiting":
	case "Downloading":
		now.done, now.total = functions.Bytes(m.Progress.Current), functions.Bytes(max(m.Progress.Total, m.Progress.Current))
	case "Verifying Checksum", "Download complete", "Extracting":
		now.done = now.total
	case "Pull complete", "Already exists":
		now.done, now.complete = now.total, true
	default:
		return false
	}
	p[m.ID] = now
	return now != was || !known
}

func (p pulling) progress() runtime.PullProgress {
	sum := runtime.PullProgress{Of: len(p)}
	for _, l := range p {
		sum.Done += l.done
		sum.Total += l.total
		if l.complete {
			sum.Layers++
		}
	}
	return sum
}
