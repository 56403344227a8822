package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/spillway/spillway/functions"
)

// Web fetches files from URLs.
type Web interface {
	// Fetch writes the file to w, and returns its SHA-256 in hex and its size. It
	// takes at most room bytes. ErrNotFound: the server will not give it.
	// ErrForbidden, ErrInvalid and ErrTooLarge: it is not taken from there.
	// ErrUnavailable: the server does not answer, or there is no more room.
	Fetch(ctx context.Context, url string, w io.Writer, room int64) (sum string, size int64, err error)
}

// bringURL fetches a file into the task's folder. It is not kept for later: what
// a URL gives may be another file each time.
func (n *Node) bringURL(ctx context.Context, in functions.Input, target string) *functions.Failure {
	what := "input " + in.Name
	if n.cfg.Web == nil {
		return &functions.Failure{Class: functions.Infra, Message: what + ": this node fetches nothing from URLs"}
	}
	free, err := freeDisk(n.cfg.DataDir)
	if err != nil {
		return diskFailure("read free disk", err)
	}
	err = create(target, func(f *os.File) error {
		_, _, err := n.cfg.Web.Fetch(ctx, in.URL, f, int64(max(0, free-n.cfg.DiskFloor)))
		return err
	})
	if err == nil {
		return nil
	}
	if _, onDisk := errors.AsType[*fs.PathError](err); onDisk || fullDisk(err) {
		return diskFailure("write "+what, err)
	}
	return placeFailure(what, functions.Store, err)
}
