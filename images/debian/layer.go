package debian

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"
)

// Config says which packages.
type Config struct {
	Packages []string          // wanted; what they depend on comes too, what they recommend does not
	Without  []string          // left out although others depend on them
	Links    map[string]string // symbolic links to add, absolute path to target, as update-alternatives makes them
	Log      *slog.Logger
}

// WriteLayer writes the layer as a tar stream to w and returns the names of the
// package files in it. The same package versions give the same bytes.
func WriteLayer(ctx context.Context, c Config, w io.Writer) (packages []string, err error) {
	dir, err := os.MkdirTemp("", "spillway-debian-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for packages: %w", err)
	}
	defer os.RemoveAll(dir)
	start := time.Now()
	a, err := newApt(dir)
	if err != nil {
		return nil, err
	}
	if _, err := a.run(ctx, "update"); err != nil {
		return nil, err
	}
	names, err := a.closure(ctx, c.Packages)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(c.Without, n) })
	files, err := a.download(ctx, names)
	if err != nil {
		return nil, err
	}
	c.Log.Info("packages downloaded", "packages", len(files), "ms", time.Since(start).Milliseconds())
	start = time.Now()
	if err := merge(ctx, w, files, c.Links); err != nil {
		return nil, err
	}
	c.Log.Info("packages unpacked", "packages", len(files), "ms", time.Since(start).Milliseconds())
	return files, nil
}
