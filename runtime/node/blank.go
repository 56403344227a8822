package node

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
)

// blanks makes folders for attempts beforehand, each with an empty journal: to
// make a folder and a file takes a file system far longer than to rename one, and
// an attempt that finds a warm container has little else to wait for.
type blanks struct {
	dir   string
	ready chan folder
}

// mostBlanks is how many attempts may come in the time in which one is made.
const mostBlanks = 16

func newBlanks(dataDir string) *blanks {
	return &blanks{dir: filepath.Join(dataDir, "blank"), ready: make(chan folder, mostBlanks)}
}

// run keeps some ready until ctx ends. Without any, attempts make their own.
func (b *blanks) run(ctx context.Context) error {
	if err := os.RemoveAll(b.dir); err != nil {
		return err
	}
	for n := 0; ; n++ {
		f := folder(filepath.Join(b.dir, strconv.Itoa(n)))
		err := f.make()
		if err == nil {
			err = os.WriteFile(f.journal(), nil, 0o600)
		}
		if err != nil {
			return err
		}
		select {
		case b.ready <- f:
		case <-ctx.Done():
			return os.RemoveAll(b.dir)
		}
	}
}

// take makes one the folder to, or reports false.
func (b *blanks) take(to folder) bool {
	select {
	case f := <-b.ready:
		return os.Rename(string(f), string(to)) == nil
	default:
		return false
	}
}

func (n *Node) stockBlanks(ctx context.Context) {
	if err := n.blanks.run(ctx); err != nil {
		n.cfg.Log.Warn("no folders are made beforehand", "err", err)
	}
}
