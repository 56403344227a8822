package store

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/spillway/spillway/functions"
)

// mostArchived bounds the files of an archive: layers, configurations, manifests.
const mostArchived = 20_000

// Load makes the images of an archive present, as docker save or an OCI layout
// writes it, gzipped or not. It returns their names; an image without one is
// known by its ID, which is then in its place. The archive is read once, from
// front to end.
func (s *Store) Load(ctx context.Context, r io.Reader) (names []string, err error) {
	t, err := s.temp()
	if err != nil {
		return nil, fmt.Errorf("make room for an archive: %w", err)
	}
	account := &account{store: s}
	defer func() { err = errors.Join(err, t.close()); account.close() }()
	files, err := spool(t.dir, untilDone{ctx, r}, account.spend)
	if err != nil {
		return nil, err
	}
	images, err := files.images()
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		var full []string
		for _, text := range img.names {
			n, err := parse(text)
			if err != nil {
				return names, err
			}
			full = append(full, n.full)
			names = append(names, n.String())
		}
		if err := s.install(ctx, img.manifest, full, func(Progress) {}); err != nil {
			return names, fmt.Errorf("load image: %w", err)
		}
		if len(full) == 0 {
			names = append(names, "sha256:"+img.id)
		}
	}
	return names, nil
}

// archive is the files of an archive, spooled to disk under names of ours: those
// in the archive are hostile.
type archive struct {
	files map[string]string // from the name in the archive
	links map[string]string // to another name in the archive
}

// spool reads an archive to its end.
func spool(dir string, r io.Reader, spend func(functions.Bytes) error) (*archive, error) {
	plain, err := gunzip(r)
	if err != nil {
		return nil, badArchive("it cannot be read: %v", err)
	}
	a := &archive{files: map[string]string{}, links: map[string]string{}}
	for entries := tar.NewReader(plain); ; {
		h, err := entries.Next()
		switch {
		case errors.Is(err, io.EOF):
			return a, nil
		case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, badArchive("its tar stream is damaged: %v", err)
		case err != nil:
			return nil, fmt.Errorf("read the archive: %w", err)
		}
		if len(a.files)+len(a.links) > mostArchived {
			return nil, badArchive("it has over %d files", mostArchived)
		}
		name := path.Clean("/" + h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			file := filepath.Join(dir, strconv.Itoa(len(a.files)))
			if err := spoolFile(file, entries, spend); err != nil {
				return nil, err
			}
			a.files[name] = file
		case tar.TypeSymlink: // old engines write a layer once
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean("/" + h.Linkname)
		}
	}
}

func spoolFile(file string, r io.Reader, spend func(functions.Bytes) error) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(spender{f, spend}, r)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = badArchive("it breaks off")
	}
	return errors.Join(err, f.Close())
}

// spender asks before it writes.
type spender struct {
	w     io.Writer
	spend func(functions.Bytes) error
}

func (s spender) Write(p []byte) (int, error) {
	if err := s.spend(functions.Bytes(len(p))); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}

// gunzip uncompresses what is compressed.
func gunzip(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		return gzip.NewReader(b)
	}
	return b, nil
}

// open opens a file of the archive by its name there.
func (a *archive) open(name string) (*os.File, error) {
	name = path.Clean("/" + name)
	if to, ok := a.links[name]; ok {
		name = to // one step: no engine writes more
	}
	file, ok := a.files[name]
	if !ok {
		return nil, badArchive("it lacks %q", short(name))
	}
	return os.Open(file)
}

// mostDocument bounds the JSON files of an archive.
const mostDocument = 16 * functions.MiB

func (a *archive) document(name string) ([]byte, error) {
	f, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > int64(mostDocument) {
		return nil, badArchive("%q is over %s", short(name), mostDocument)
	}
	return io.ReadAll(f)
}

func (a *archive) has(name string) bool {
	_, ok := a.files[name]
	return ok
}

func badArchive(format string, args ...any) error {
	return functions.Invalid("bad_image_archive", "the image archive cannot be used: "+format, args...).
		WithHint("write it with: docker save")
}
