package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/store"
	"github.com/spillway/spillway/runtime"
)

// openImages opens the store of images of this machine's node, which several
// processes may have open. The credentials are those that docker login or
// podman login left.
func openImages(cfg Config, log *slog.Logger) (*store.Store, error) {
	return store.Open(store.Config{Dir: filepath.Join(cfg.Data, "node", "images"), Auth: authn.DefaultKeychain, Log: log})
}

// unpacked is the store as a driver without an engine uses it.
type unpacked struct{ *store.Store }

// Pull implements oci.Images.
func (u unpacked) Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	return u.Store.Pull(ctx, image, reported(progress))
}

// Image implements oci.Images.
func (u unpacked) Image(ctx context.Context, image string) (runtime.Image, error) {
	img, err := u.Store.Image(ctx, image)
	return described(img), err
}

// Images implements oci.Images.
func (u unpacked) Images(ctx context.Context) ([]runtime.Image, error) {
	found, err := u.Store.Images(ctx)
	all := make([]runtime.Image, len(found))
	for i, img := range found {
		all[i] = described(img)
	}
	return all, err
}

// Load makes the images of an archive present, as docker save writes it.
func (u unpacked) Load(ctx context.Context, archive io.Reader) error {
	_, err := u.Store.Load(ctx, archive)
	return err
}

func described(img store.Image) runtime.Image {
	return runtime.Image{
		Names: img.Names, ID: img.ID, Size: img.Size, Entrypoint: img.Entrypoint, Command: img.Command,
		Env: img.Env, WorkDir: img.WorkDir, Labels: img.Labels,
	}
}

// archives is the store as an engine with images of its own uses it: what
// registries have passes through and is not kept.
type archives struct{ *store.Store }

// Archive implements containerd.Source.
func (a archives) Archive(ctx context.Context, image string, progress func(runtime.PullProgress)) (io.ReadCloser, error) {
	return a.Store.Archive(ctx, image, reported(progress))
}

func reported(progress func(runtime.PullProgress)) func(store.Progress) {
	if progress == nil {
		return nil
	}
	return func(p store.Progress) { progress(runtime.PullProgress(p)) }
}

// loader is what keeps the images of this machine's containers, and takes them
// from archives.
type loader interface {
	Load(ctx context.Context, archive io.Reader) error
}

// openLoader finds what keeps the images of the runtime that is asked for. An
// engine is asked; without one it is the store, which a running node has open
// at the same time.
func openLoader(ctx context.Context, cfg Config, log *slog.Logger) (loader, func(), error) {
	for _, c := range serious(cfg, log) {
		if c.name == runtimeOCI || (cfg.Node.Runtime != runtimeAuto && c.name != cfg.Node.Runtime) {
			continue
		}
		d, release, _, err := c.test(ctx)
		if err != nil && cfg.Node.Runtime == runtimeAuto {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if l, ok := d.(loader); ok {
			return l, release, nil
		}
		release()
		return nil, nil, functions.Invalid("no_load", "the %s runtime takes no archives from here", c.name).
			WithHint("load the archive with the engine's own tools, such as ctr -n spillway images import")
	}
	if cfg.Node.Runtime == runtimeSimulated {
		return nil, nil, functions.Invalid("no_load", "simulated containers have no images")
	}
	images, err := openImages(cfg, log)
	return unpacked{images}, func() {}, err
}

// loadCommand makes images present where this machine's node finds them.
func loadCommand(getenv func(string) string) *cobra.Command {
	load := role("load FILE...", "Load images from archives for this machine's node",
		"  spillway load echo.tar\n  docker save example/echo | ssh node spillway load --data /var/lib/spillway -", getenv,
		func(cmd *cobra.Command, cfg Config) error {
			log, err := newLogger(cmd.ErrOrStderr(), cfg.LogLevel)
			if err != nil {
				return err
			}
			l, release, err := openLoader(cmd.Context(), cfg, log)
			if err != nil {
				return err
			}
			defer release()
			for _, name := range cmd.Flags().Args() {
				if err := loadFile(cmd.Context(), l, name, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			return nil
		})
	load.Args = cobra.MinimumNArgs(1)
	return load
}

// loadFile loads one archive; - is in.
func loadFile(ctx context.Context, l loader, name string, in io.Reader) error {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return functions.Invalid("no_archive", "%v", err).WithHint("name a file that docker save wrote, or - for standard input")
		}
		defer f.Close()
		in = f
	}
	if err := l.Load(ctx, in); err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return nil
}
