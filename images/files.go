package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// File is one file of an image: the bytes of a file of this machine, or Content.
// It belongs to root, so that a function cannot change its own program.
type File struct {
	Path    string // in the image, absolute
	Source  string // on this machine; empty means Content
	Content []byte
	Mode    fs.FileMode // permission bits; 0 means 0644
}

// fileLayer returns what writes the files as a tar stream, parents before
// children, and /tmp, which every program may expect.
func fileLayer(files []File) (func(io.Writer) error, error) {
	byPath := make(map[string]File, len(files))
	dirs := map[string]bool{"/tmp": true}
	for _, f := range files {
		if err := f.validate(); err != nil {
			return nil, err
		}
		if _, twice := byPath[f.Path]; twice {
			return nil, badFile(f.Path, "is there twice")
		}
		byPath[f.Path] = f
		for d := path.Dir(f.Path); d != "/"; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	for p := range byPath {
		if dirs[p] {
			return nil, badFile(p, "is a folder as well")
		}
	}
	order := slices.Sorted(maps.Keys(dirs))
	order = append(order, slices.Sorted(maps.Keys(byPath))...)
	return func(w io.Writer) error {
		tw := tar.NewWriter(w)
		for _, p := range order {
			var err error
			if f, ok := byPath[p]; ok {
				err = f.write(tw)
			} else {
				err = writeDir(tw, p)
			}
			if err != nil {
				return fmt.Errorf("write %s: %w", p, err)
			}
		}
		return tw.Close()
	}, nil
}

func (f File) validate() error {
	switch {
	case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/":
		return badFile(f.Path, "is not a clean absolute path")
	case strings.ContainsRune(f.Path, 0):
		return badFile(f.Path, "holds a zero byte")
	case f.Mode&^fs.ModePerm != 0:
		return badFile(f.Path, "has a mode that is more than permissions")
	}
	if f.Source == "" {
		return nil
	}
	info, err := os.Stat(f.Source)
	if err != nil {
		return badFile(f.Path, "has no source").(*functions.Error).WithCause(err)
	}
	if !info.Mode().IsRegular() {
		return badFile(f.Path, "has a source that is not a regular file")
	}
	return nil
}

func badFile(p, why string) error {
	return functions.Invalid("bad_image_file", "%q %s", short(p), why).WithField("files")
}

func (f File) write(tw *tar.Writer) error {
	var r io.Reader = bytes.NewReader(f.Content)
	size := int64(len(f.Content))
	if f.Source != "" {
		src, err := os.Open(f.Source)
		if err != nil {
			return err
		}
		defer src.Close()
		info, err := src.Stat()
		if err != nil {
			return err
		}
		r, size = src, info.Size()
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
	}
	h := header(f.Path, tar.TypeReg, int64(mode))
	h.Size = size
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(tw, r)
	return err
}

func writeDir(tw *tar.Writer, p string) error {
	mode := int64(0o755)
	if p == "/tmp" {
		mode = 0o1777
	}
	return tw.WriteHeader(header(p+"/", tar.TypeDir, mode))
}

// header is a header that says nothing of the machine or the moment.
func header(p string, kind byte, mode int64) *tar.Header {
	return &tar.Header{
		Typeflag: kind, Name: strings.TrimPrefix(p, "/"), Mode: mode,
		ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	}
}
