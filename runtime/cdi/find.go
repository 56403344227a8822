package cdi

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// Found is a GPU as a specification describes it.
type Found struct {
	Name    string   // GPU-..., MIG-..., an index, or all
	File    string   // the specification
	Missing []string // paths of this machine that it brings, and that are not there
}

// Find lists the GPUs that the specifications in dirs describe. Those that cannot
// be read are in the error, and the rest is returned all the same.
func Find(dirs []string) (found []Found, err error) {
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", dirs, err)
	}
	for _, full := range cache.ListDevices() {
		name, ours := strings.CutPrefix(full, kind+"=")
		d := cache.GetDevice(full)
		if !ours || d == nil {
			continue
		}
		f := Found{Name: name, File: d.GetSpec().GetPath()}
		for _, edits := range []cdi.ContainerEdits{{ContainerEdits: &d.ContainerEdits}, {ContainerEdits: &d.GetSpec().ContainerEdits}} {
			f.Missing = append(f.Missing, missing(edits)...)
		}
		slices.Sort(f.Missing)
		f.Missing = slices.Compact(f.Missing)
		found = append(found, f)
	}
	for file, errs := range cache.GetErrors() {
		err = errors.Join(err, fmt.Errorf("%s cannot be read: %w", file, errs[0]))
	}
	return found, err
}

// missing are the files and devices that are brought and do not exist.
func missing(edits cdi.ContainerEdits) (paths []string) {
	look := func(path string) {
		if _, err := os.Stat(path); err != nil {
			paths = append(paths, path)
		}
	}
	for _, n := range edits.DeviceNodes {
		if n.HostPath != "" {
			look(n.HostPath)
		} else {
			look(n.Path)
		}
	}
	for _, m := range edits.Mounts {
		if m.Type == "" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind") {
			look(m.HostPath)
		}
	}
	return paths
}
