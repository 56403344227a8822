package store

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spillway/spillway/functions"
)

// Archive streams an image from its registry as docker save writes it, for an
// engine that has a store of its own; nothing of it is kept here. What an image
// was loaded from is not kept, so that one which no registry has is ErrNotFound
// or ErrUnavailable even if it is present. A transfer that breaks off is an error
// of Read. Errors are Pull's; progress, which may be nil, is called as the bytes
// are read. The caller closes the archive.
func (s *Store) Archive(ctx context.Context, ref string, progress func(Progress)) (io.ReadCloser, error) {
	n, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if n.id != "" {
		return nil, functions.Invalid("bad_image", "image %s has no registry", n).WithHint("name it by a reference")
	}
	ctx, cancel := context.WithCancel(ctx)
	m, err := s.find(ctx, n)
	if err != nil {
		cancel()
		return nil, err
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := m.archive(tar.NewWriter(w), n, progress)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			err = pullError(n, err)
		}
		w.CloseWithError(err)
	}()
	return archiving{r, func() { cancel(); <-done }}, nil
}

// archiving is an archive that is being written as it is read.
type archiving struct {
	*io.PipeReader
	stop func()
}

// Close gives up what was not read.
func (a archiving) Close() error {
	err := a.PipeReader.Close()
	a.stop()
	return err
}

// archive writes the image as docker save does. Layers stay compressed.
func (m manifest) archive(w *tar.Writer, n imageName, report func(Progress)) error {
	progress := Progress{Of: len(m.layers)}
	for _, l := range m.layers {
		progress.Total += l.size
	}
	row := struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{Config: m.id + ".json"}
	if n.isTag() {
		row.RepoTags = []string{n.String()}
	}
	for _, l := range m.layers {
		name := l.diffID.Hex + ".tar"
		if !slices.Contains(row.Layers, name) {
			if err := l.archive(w, name, func(n int) { progress.Done += functions.Bytes(n); report(progress) }); err != nil {
				return err
			}
		}
		row.Layers = append(row.Layers, name)
		progress.Layers++
		report(progress)
	}
	table, err := json.Marshal([]any{row})
	if err != nil {
		return err
	}
	if err := document(w, row.Config, m.raw); err != nil {
		return err
	}
	if err := document(w, "manifest.json", table); err != nil {
		return err
	}
	return w.Close()
}

func (l *fetching) archive(w *tar.Writer, name string, count func(int)) error {
	rc, err := l.open()
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(l.size)}); err != nil {
		return err
	}
	if _, err := io.Copy(w, countingReader{rc, count}); err != nil {
		return fmt.Errorf("read a layer: %w", err)
	}
	return nil
}

func document(w *tar.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}
