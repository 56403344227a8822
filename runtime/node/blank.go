package node

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/spillway/spillway/functions"
)

// blanks makes folders for attempts beforehand, with all in them that a container
// sees, and takes those back that attempts have left clean: to make a file or a
// folder takes a file system far longer than to rename one, and to give it up is
// no cheaper. An attempt that has little to do does little else.
//
// A folder that containers of a function have seen is used again for this
// function alone: something that still runs might hold it open.
type blanks struct {
	dir  string
	user owner
	low  chan struct{} // asks for more

	mu    sync.Mutex // guards the fields below
	made  int        // names so far
	model *likeness  // of a folder that no container has seen; nil = none was made yet
	fresh []folder
	used  map[functions.Name][]folder
	kept  int // folders in used
}

const (
	// mostBlanks is how many attempts may come in the time in which one is made.
	mostBlanks = 16
	// mostUsed is how many folders wait for the next task of their function.
	mostUsed = 256
)

func newBlanks(dataDir string, user owner) *blanks {
	return &blanks{dir: filepath.Join(dataDir, "blank"), user: user, low: make(chan struct{}, 1), used: map[functions.Name][]folder{}}
}

// run keeps some ready until ctx ends. Without any, attempts make their own.
func (b *blanks) run(ctx context.Context) error {
	if err := os.RemoveAll(b.dir); err != nil {
		return err
	}
	for {
		for b.short() {
			if err := b.add(); err != nil {
				return err
			}
		}
		select {
		case <-b.low:
		case <-ctx.Done():
			return os.RemoveAll(b.dir)
		}
	}
}

func (b *blanks) short() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.fresh) < mostBlanks
}

// name is one that no folder had before.
func (b *blanks) name() folder {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.made++
	return folder(filepath.Join(b.dir, strconv.Itoa(b.made)))
}

func (b *blanks) add() error {
	f := b.name()
	if err := f.make(); err != nil {
		return err
	}
	if err := f.layOut(b.user, false); err != nil {
		return err
	}
	if err := os.WriteFile(f.journal(), []byte(lineBreak), 0o600); err != nil {
		return err
	}
	now, err := f.tidy()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.model == nil {
		b.model = &now
	}
	b.fresh = append(b.fresh, f)
	return nil
}

// take makes one the folder to, or reports false.
func (b *blanks) take(fn functions.Name, to folder) bool {
	f, ok := b.pop(fn)
	return ok && os.Rename(string(f), string(to)) == nil
}

func (b *blanks) pop(fn functions.Name) (folder, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if own := b.used[fn]; len(own) > 0 {
		f := own[len(own)-1]
		b.shrink(fn)
		return f, true
	}
	if len(b.fresh) == 0 {
		return "", false
	}
	f := b.fresh[len(b.fresh)-1]
	b.fresh = b.fresh[:len(b.fresh)-1]
	select {
	case b.low <- struct{}{}:
	default: // asked already
	}
	return f, true
}

// shrink forgets the last used folder of a function. It is called with mu held.
func (b *blanks) shrink(fn functions.Name) {
	b.kept--
	if own := b.used[fn]; len(own) > 1 {
		b.used[fn] = own[:len(own)-1]
		return
	}
	delete(b.used, fn)
}

// giveBack takes a folder that nothing uses any more, if it can be made what it
// was; otherwise it is the caller's to remove.
func (b *blanks) giveBack(fn functions.Name, f folder) bool {
	b.mu.Lock()
	model := b.model
	b.mu.Unlock()
	if model == nil || unbind(f.in()) != nil {
		return false
	}
	if now, err := f.tidy(); err != nil || now != *model {
		return false
	}
	to := b.name()
	if os.Rename(string(f), string(to)) != nil {
		return false
	}
	if old := b.keep(fn, to); old != "" {
		_ = old.removeAll() // what stays is removed with all the others, at the next start
	}
	return true
}

// keep puts a folder by, and returns one that has to go for it.
func (b *blanks) keep(fn functions.Name, f folder) (over folder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept == mostUsed {
		for other, own := range b.used { // in random order
			over = own[len(own)-1]
			b.shrink(other)
			break
		}
	}
	b.used[fn] = append(b.used[fn], f)
	b.kept++
	return over
}

func (n *Node) stockBlanks(ctx context.Context) {
	if err := n.blanks.run(ctx); err != nil {
		n.cfg.Log.Warn("no folders are made beforehand", "err", err)
	}
}
