package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// mountRoot lays a memory-backed layer over an image's: for the places where
// the runtime mounts something that the image has not. The container itself
// cannot write there. Layers are named by descriptor, because the kernel takes
// one page of options, which paths would fill.
func mountRoot(l wire.Launch) error {
	if err := unix.Mount("tmpfs", l.Scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size="+strconv.FormatInt(l.Room, 10)); err != nil {
		return &os.PathError{Op: "mount tmpfs on", Path: l.Scratch, Err: err}
	}
	upper, work := l.Scratch+"/upper", l.Scratch+"/work"
	for _, dir := range []string{upper, work} {
		if err := unix.Mkdir(dir, 0o755); err != nil {
			return &os.PathError{Op: "mkdir", Path: dir, Err: err}
		}
	}
	lowers := make([]string, len(l.Layers))
	for i, layer := range l.Layers {
		fd, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open image layer", Path: layer, Err: err}
		}
		defer unix.Close(fd)
		lowers[len(lowers)-1-i] = "/proc/self/fd/" + strconv.Itoa(fd)
	}
	options := "lowerdir=" + strings.Join(lowers, ":") + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", l.Root, "overlay", 0, options); err != nil {
		return &os.PathError{Op: "mount overlay on", Path: l.Root, Err: err}
	}
	return nil
}
