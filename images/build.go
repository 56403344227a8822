package images

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/debian"
)

// InputsLabel is on every image that BuildCatalog makes. Its value is a digest
// of all that went into the image, so that an image need not be made twice.
const InputsLabel = "io.spillway.inputs"

// recipe is part of the inputs: raise it when the same inputs shall give another image.
const recipe = "1"

// Engine is where images go. DockerCLI is one.
type Engine interface {
	// Has reports whether there is an image of that name and label.
	Has(ctx context.Context, ref, label, value string) (bool, error)
	// Load takes in an archive, which write writes.
	Load(ctx context.Context, write func(io.Writer) error) error
}

// CatalogConfig says how to build the shipped images.
type CatalogConfig struct {
	Bin    string // folder of the static programs, one for each function, named like it
	Cache  string // folder for package layers, kept between builds
	Out    string // folder for archives, one for each group; used when Engine is nil
	Engine Engine // nil means: write archives
	Only   string // build this group alone: static, documents or media; empty means all
	Log    *slog.Logger
}

// Built is one shipped image.
type Built struct {
	Ref    string        `json:"ref"`
	Digest string        `json:"digest,omitempty"` // empty when it was there already
	Fresh  bool          `json:"fresh"`            // made now
	Took   time.Duration `json:"took"`             // of its group
}

// BuildCatalog makes the images of the functions that Spillway ships, those
// whose inputs changed, and loads them into the engine. Groups are made side by
// side; the error is the first, and what was loaded before it stays.
func BuildCatalog(ctx context.Context, c CatalogConfig) ([]Built, error) {
	var (
		mu    sync.Mutex // guards built
		built []Built
	)
	if c.Only != "" && !slices.ContainsFunc(shipped, func(gr group) bool { return gr.name == c.Only }) {
		return nil, functions.Invalid("no_group", "there is no group of images named %q", c.Only).WithHint("use static, documents or media")
	}
	dir, err := os.MkdirTemp("", "spillway-images-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for packages: %w", err)
	}
	defer os.RemoveAll(dir)
	g, ctx := errgroup.WithContext(ctx)
	lower := lowerLayers{cache: c.Cache, source: sync.OnceValues(func() (*debian.Source, error) { return debian.Open(ctx, dir, c.Log) })}
	for _, gr := range shipped {
		if c.Only != "" && c.Only != gr.name {
			continue
		}
		g.Go(func() error {
			b, err := buildGroup(ctx, c, gr, lower)
			if err != nil {
				return fmt.Errorf("build the %s images: %w", gr.name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			built = append(built, b...)
			return nil
		})
	}
	err = g.Wait()
	slices.SortFunc(built, func(a, b Built) int { return strings.Compare(a.Ref, b.Ref) })
	return built, err
}

func buildGroup(ctx context.Context, c CatalogConfig, gr group, lower lowerLayers) ([]Built, error) {
	start := time.Now()
	inputs := make(map[string]string, len(gr.functions))
	var built []Built
	stale := c.Engine == nil
	for _, fn := range gr.functions {
		sum, err := inputsOf(filepath.Join(c.Bin, fn), gr)
		if err != nil {
			return nil, err
		}
		inputs[fn] = sum
		built = append(built, Built{Ref: ref(fn)})
		if !stale {
			has, err := c.Engine.Has(ctx, ref(fn), InputsLabel, sum)
			if err != nil {
				return nil, err
			}
			stale = !has
		}
	}
	if !stale {
		return built, nil
	}
	packages, err := lower.open(ctx, gr.layer)
	if err != nil {
		return nil, err
	}
	byRef := make(map[string]v1.Image, len(gr.functions))
	for i, fn := range gr.functions {
		img, err := Build(Config{
			Ref: ref(fn), Tar: packages,
			Files:      []File{{Path: "/function", Source: filepath.Join(c.Bin, fn), Mode: 0o755}, passwd, groups},
			Entrypoint: []string{"/function"},
			Env:        append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp"}, gr.env...),
			Labels:     map[string]string{InputsLabel: inputs[fn], "org.opencontainers.image.title": fn},
		})
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", ref(fn), err)
		}
		if built[i].Digest, err = Digest(img); err != nil {
			return nil, err
		}
		byRef[ref(fn)], built[i].Fresh = img, true
	}
	if err := deliver(ctx, c, gr.name, byRef); err != nil {
		return nil, err
	}
	for i := range built {
		built[i].Took = time.Since(start)
	}
	return built, nil
}

// passwd and groups give the user of our images a name, for programs that look it up.
var (
	passwd = File{Path: "/etc/passwd", Content: []byte("root:x:0:0:root:/root:/sbin/nologin\nfunction:x:65532:65532:function:/tmp:/sbin/nologin\n")}
	groups = File{Path: "/etc/group", Content: []byte("root:x:0:\nfunction:x:65532:\n")}
)

// deliver loads the images into the engine, or writes their archive.
func deliver(ctx context.Context, c CatalogConfig, name string, byRef map[string]v1.Image) error {
	write := func(w io.Writer) error { return WriteArchives(w, byRef) }
	if c.Engine != nil {
		return c.Engine.Load(ctx, write)
	}
	return writeFile(filepath.Join(c.Out, name+".tar"), write)
}

// writeFile writes a file whole or not at all.
func writeFile(name string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".part-*")
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(f.Name(), name)
}
