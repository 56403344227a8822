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
}

// Source is what the machine's apt offers at one moment. Layers may be written
// from it side by side.
type Source struct {
	apt *apt
	log *slog.Logger
}

// Open fetches the package lists into dir, an empty folder that the caller
// removes in the end. A machine without apt, or without a way to its sources, is
// an ErrUnavailable error.
func Open(ctx context.Context, dir string, log *slog.Logger) (*Source, error) {
	a, err := newApt(dir)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if _, err := a.run(ctx, dir, "update"); err != nil {
		return nil, err
	}
	log.Info("package lists fetched", "ms", time.Since(start).Milliseconds())
	return &Source{apt: a, log: log}, nil
}

// WriteLayer writes the layer as a tar stream to w. The same package versions
// give the same bytes.
func (s *Source) WriteLayer(ctx context.Context, c Config, w io.Writer) error {
	work, err := os.MkdirTemp(s.apt.dir, "debs-")
	if err != nil {
		return fmt.Errorf("make a folder for packages: %w", err)
	}
	defer os.RemoveAll(work)
	start := time.Now()
	names, err := s.apt.closure(ctx, c.Packages)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(c.Without, n) })
	files, err := s.apt.download(ctx, work, names)
	if err != nil {
		return err
	}
	s.log.Info("packages downloaded", "packages", len(files), "ms", time.Since(start).Milliseconds())
	start = time.Now()
	if err := merge(ctx, w, files, c.Links); err != nil {
		return err
	}
	s.log.Info("packages unpacked", "packages", len(files), "ms", time.Since(start).Milliseconds())
	return nil
}
