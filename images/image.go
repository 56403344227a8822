package images

import (
	"fmt"
	"io"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// nobody is the user of every image we make: the number that distroless images
// use for a user without rights, so that host permissions can name it.
const nobody = "65532:65532"

// Config is one image.
type Config struct {
	Ref        string                        // checked; the image itself does not hold it
	Base       v1.Image                      // nil means from scratch
	Tar        func() (io.ReadCloser, error) // a tar stream to lay under Files; may be nil; opened twice
	Files      []File                        // the top layer
	Entrypoint []string
	Env        []string // K=V, added to the base's
	User       string   // uid:gid; empty means 65532:65532
	WorkDir    string
	Labels     map[string]string
}

// Build makes the image. It reads every file once to know its digest, and again
// when the image is written, so the files must stay until then. What the caller
// must change is an ErrInvalid error.
func Build(c Config) (v1.Image, error) {
	if _, err := parseTag(c.Ref); err != nil {
		return nil, err
	}
	img := c.Base
	if img == nil {
		img = empty.Image
	}
	var adds []mutate.Addendum
	if c.Tar != nil {
		l, err := newLayer(c.Tar)
		if err != nil {
			return nil, fmt.Errorf("read the lower layer: %w", err)
		}
		adds = append(adds, addendum(l, "packages"))
	}
	if len(c.Files) > 0 {
		write, err := fileLayer(c.Files)
		if err != nil {
			return nil, err
		}
		l, err := newLayer(func() (io.ReadCloser, error) { return pipe(write), nil })
		if err != nil {
			return nil, fmt.Errorf("read the files: %w", err)
		}
		adds = append(adds, addendum(l, "files"))
	}
	img, err := mutate.Append(img, adds...)
	if err != nil {
		return nil, fmt.Errorf("append the layers: %w", err)
	}
	return configure(img, c)
}

func addendum(l v1.Layer, what string) mutate.Addendum {
	return mutate.Addendum{Layer: l, MediaType: uncompressed, History: v1.History{CreatedBy: "spillway: " + what}}
}

// configure sets what a container of the image does. It keeps the base's
// variables and labels and puts ours over them.
func configure(img v1.Image, c Config) (v1.Image, error) {
	old, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the base's configuration: %w", err)
	}
	cf := old.DeepCopy()
	cf.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	if cf.OS == "" {
		cf.OS, cf.Architecture = "linux", runtime.GOARCH
	}
	if len(c.Entrypoint) > 0 {
		cf.Config.Entrypoint, cf.Config.Cmd = c.Entrypoint, nil
	}
	cf.Config.Env = append(cf.Config.Env, c.Env...)
	cf.Config.User = c.User
	if c.User == "" {
		cf.Config.User = nobody
	}
	if c.WorkDir != "" {
		cf.Config.WorkingDir = c.WorkDir
	}
	if cf.Config.Labels == nil && len(c.Labels) > 0 {
		cf.Config.Labels = make(map[string]string, len(c.Labels))
	}
	for k, v := range c.Labels {
		cf.Config.Labels[k] = v
	}
	img, err = mutate.ConfigFile(img, cf)
	if err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return img, nil
}
