package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/cmd/spillway/cli"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/credentials"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/node"
)

// nodeFlags are the settings that say which images are this machine's.
var nodeFlags = []string{"config", "data", "log-level", "runtime", "docker-host", "containerd", "containerd-namespace", "registry-auth", "image-budget"}

// localImages lets the images command reach what runs containers here, with the
// settings that a node has.
func localImages(getenv func(string) string) cli.LocalImages {
	cfg := Default()
	return cli.LocalImages{
		Bind: func(cmd *cobra.Command) {
			all := pflag.NewFlagSet("", pflag.ContinueOnError)
			cfg.bind(all)
			for _, name := range nodeFlags {
				cmd.PersistentFlags().AddFlag(all.Lookup(name))
			}
		},
		Open: func(cmd *cobra.Command) (cli.Images, func(), error) {
			if err := cfg.read(cmd.Flags(), getenv); err != nil {
				return nil, nil, err
			}
			log, err := newLogger(cmd.ErrOrStderr(), cfg.LogLevel)
			if err != nil {
				return nil, nil, err
			}
			images, release, err := openKeeper(cmd.Context(), cfg, log)
			if err != nil {
				return nil, nil, err
			}
			return machineImages{images, cfg, log}, release, nil
		},
	}
}

// machineImages are the images of this machine's containers, and what its node
// knows of them.
type machineImages struct {
	images keeper
	cfg    Config
	log    *slog.Logger
}

func (m machineImages) data() string { return filepath.Join(m.cfg.Data, "node") }

// List implements cli.Images.
func (m machineImages) List(ctx context.Context) ([]cli.Image, error) {
	found, err := m.images.Images(ctx)
	if err != nil {
		return nil, err
	}
	used, err := node.ImageUses(m.data())
	if err != nil {
		return nil, err
	}
	all := make([]cli.Image, len(found))
	for i, img := range found {
		all[i] = cli.Image{Names: img.Names, ID: img.ID, Size: img.Size, Used: used[img.ID]}
	}
	return all, nil
}

// Pull implements cli.Images.
func (m machineImages) Pull(ctx context.Context, name string, tell func(string)) error {
	return m.images.Pull(ctx, name, func(p runtime.PullProgress) { tell(node.PullMessage(name, p)) })
}

// Load implements cli.Images.
func (m machineImages) Load(ctx context.Context, archive io.Reader) error {
	l, ok := m.images.(interface {
		Load(ctx context.Context, archive io.Reader) error
	})
	if !ok {
		return functions.Invalid("no_load", "the %s runtime loads no archives", m.images.Name())
	}
	return l.Load(ctx, archive)
}

// Remove implements cli.Images.
func (m machineImages) Remove(ctx context.Context, name string) error {
	return m.images.RemoveImage(ctx, name)
}

// Collect implements cli.Images.
func (m machineImages) Collect(ctx context.Context) (functions.Bytes, error) {
	if _, err := os.Stat(m.data()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil // no node has pulled anything
	}
	budget, err := imageBudget(m.cfg)
	if err != nil {
		return 0, err
	}
	d, err := openDriver(ctx, m.cfg, m.log)
	if err != nil {
		return 0, err
	}
	defer d.release()
	return node.CollectImages(ctx, node.Config{DataDir: m.data(), Driver: d.driver, ImageBudget: budget, Log: m.log, Now: time.Now})
}

// The disk that images take when nothing else is set: this much, if the disk is
// five times as large.
const usualImages = 50 * functions.GiB

// imageBudget is the most disk for images that the node has pulled; 0 = it never
// removes one.
func imageBudget(cfg Config) (functions.Bytes, error) {
	return diskShare(cfg.Node.ImageBudget, cfg.Data, usualImages, 5)
}

// registryKeys are the credentials for image registries.
func registryKeys(cfg NodeConfig) (*credentials.Keychain, error) {
	return credentials.Open(cfg.RegistryAuth)
}
