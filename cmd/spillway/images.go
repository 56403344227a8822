package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

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
	budget, err := parseSize(cfg.Node.Images)
	if err != nil {
		return nil, err
	}
	return store.Open(store.Config{
		Dir: filepath.Join(cfg.Data, "node", "images"), Budget: budget,
		Auth: authn.DefaultKeychain, Insecure: cfg.Node.InsecureRegistries, Log: log,
	})
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

// loadCommand puts images where a node without an engine finds them, whether it
// runs or not.
func loadCommand(getenv func(string) string) *cobra.Command {
	load := role("load FILE...", "Load images into this machine's own store, for a node that runs without an engine",
		"  spillway load echo.tar\n  docker save example/echo | ssh node spillway load --data /var/lib/spillway -", getenv,
		func(cmd *cobra.Command, cfg Config) error {
			log, err := newLogger(cmd.ErrOrStderr(), cfg.LogLevel)
			if err != nil {
				return err
			}
			return loadImages(cmd.Context(), cfg, cmd.Flags().Args(), cmd.InOrStdin(), cmd.OutOrStdout(), log)
		})
	load.Args = cobra.MinimumNArgs(1)
	return load
}

// loadImages reads archives as docker save or an OCI layout has them; - is in.
func loadImages(ctx context.Context, cfg Config, files []string, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	images, err := openImages(cfg, log)
	if err != nil {
		return err
	}
	for _, name := range files {
		from := in
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return functions.Invalid("no_archive", "%v", err).WithHint("name a file that docker save wrote, or - for standard input")
			}
			defer f.Close()
			from = f
		}
		names, err := images.Load(ctx, from)
		if err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
		if len(names) == 0 {
			return errors.New(name + " has no image")
		}
		fmt.Fprintln(out, strings.Join(names, "\n"))
	}
	return nil
}
