package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// merge unpacks package files and writes their content as one tar stream, in
// the order of files. Packages are decompressed in parallel, a few ahead of the
// one being written.
func merge(ctx context.Context, w io.Writer, files []string, links map[string]string) error {
	out := &merger{tw: tar.NewWriter(w), seen: map[string]byte{}}
	for _, l := range topLinks {
		if err := out.symlink(l, "usr/"+l); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	ahead := runtime.GOMAXPROCS(0) + 2
	turns := make(chan chan []byte, ahead)
	slots := make(chan struct{}, runtime.GOMAXPROCS(0)) // one for each running dpkg-deb
	g.Go(func() error {
		defer close(turns)
		for _, f := range files {
			done := make(chan []byte, 1)
			select {
			case turns <- done:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.Go(func() error {
				slots <- struct{}{}
				defer func() { <-slots }()
				body, err := unpack(ctx, f)
				done <- body // has room; nil when err
				return err
			})
		}
		return nil
	})
	g.Go(func() error {
		for done := range turns {
			body := <-done
			if body == nil {
				return nil // its own goroutine has the error
			}
			if err := out.add(bytes.NewReader(body)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(links)) {
		if err := out.symlink(strings.TrimPrefix(p, "/"), links[p]); err != nil {
			return err
		}
	}
	return out.tw.Close()
}

func unpack(ctx context.Context, file string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	body, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w (%s)", filepath.Base(file), err, lastLine(errs.String()))
	}
	return body, nil
}

// topLinks are the folders that Debian moved into /usr. Older packages still
// name them; base-files' scripts, which do not run here, would make the links.
var topLinks = []string{"bin", "lib", "lib64", "sbin"}

type merger struct {
	tw   *tar.Writer
	seen map[string]byte // path to type, of what is written
}

// add copies one package's files. A file that an earlier package brought stays.
func (m *merger) add(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a package: %w", err)
		}
		name := place(h.Name)
		if name == "" || unwanted(name) {
			continue
		}
		if _, dup := m.seen[name]; dup {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
		default:
			continue // devices and pipes have no use in a container
		}
		m.seen[name] = h.Typeflag
		o := clean(h, name)
		if err := m.tw.WriteHeader(o); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if _, err := io.Copy(m.tw, tr); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
}

func (m *merger) symlink(name, target string) error {
	if _, dup := m.seen[name]; dup {
		return nil
	}
	m.seen[name] = tar.TypeSymlink
	h := clean(&tar.Header{Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, name)
	if err := m.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

// clean is h without owner, time, and the bits that let a program gain rights.
func clean(h *tar.Header, name string) *tar.Header {
	o := &tar.Header{
		Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size,
		Mode: h.Mode & 0o1777, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	}
	switch h.Typeflag {
	case tar.TypeDir:
		o.Name += "/"
	case tar.TypeLink:
		o.Linkname = place(h.Linkname)
	}
	return o
}

// place is where a package's path belongs: below /usr when it names one of the
// folders that are links there. It is empty for the root and for the links
// themselves.
func place(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	top, rest, deeper := strings.Cut(name, "/")
	if !slices.Contains(topLinks, top) {
		return name
	}
	if !deeper {
		return ""
	}
	return "usr/" + top + "/" + rest
}

// unwanted says which files no function reads. Licences stay.
func unwanted(name string) bool {
	for _, dir := range []string{"usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/", "usr/share/doc-base/"} {
		if strings.HasPrefix(name, dir) {
			return true
		}
	}
	rest, doc := strings.CutPrefix(name, "usr/share/doc/")
	return doc && strings.Contains(rest, "/") && path.Base(name) != "copyright"
}
