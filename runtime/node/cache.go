package node

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

// cache keeps the content of objects, so that a node fetches each once. A task
// sees a hard link to the cache's file: eviction takes nothing from it. What the
// files hold was checked while it was fetched, and is not synced to the disk:
// after a reboot of the machine the cache begins empty.
//
// Its folder holds a file for each content, named by its identity; what is being
// fetched, as IDENTITY.*.partial; and boot, the machine's boot that all belongs to.
type cache struct {
	dir    string
	budget functions.Bytes // 0 = nothing is kept
	log    *slog.Logger
	now    func() time.Time
	group  *sync.WaitGroup // of the fetches
	link   func(oldname, newname string) error
	room   func(need functions.Bytes) error // nil when the disk has it

	mu      sync.Mutex               // guards the fields below
	entries map[string]*list.Element // by identity; of *content
	recent  list.List                // of *content, the one used last in front
	flights map[string]*flight       // by identity
	used    functions.Bytes          // by entries, and promised to flights
	counts  functions.CacheInfo      // what has happened; Budget and Used are filled on demand
}

// content is one file of the cache.
type content struct {
	id   string
	size functions.Bytes
	pins int // callers that are about to link to it: it stays
}

// flight is one fetch, for all who want the content. It ends early when nobody
// wants it any more.
type flight struct {
	id      string
	size    functions.Bytes
	cancel  context.CancelFunc
	done    chan struct{} // closed when the fields below are final
	content *content      // nil = it failed
	err     error         // why the content could not be had
	waiters int           // guarded by the cache's mutex
}

// fetcher writes a content to an empty file, and checks it.
type fetcher func(ctx context.Context, f *os.File) error

// errNoCache means that the cache's own files failed, not the fetch.
var errNoCache = errors.New("the cache cannot be used")

const (
	bootFile = "boot"
	// block is the least that a content counts: empty files take room as well.
	block = 4 * functions.KiB
)

func newCache(dir string, budget functions.Bytes, log *slog.Logger, now func() time.Time, group *sync.WaitGroup, room func(functions.Bytes) error) *cache {
	return &cache{
		dir: dir, budget: budget, log: log, now: now, group: group, link: os.Link, room: room,
		entries: make(map[string]*list.Element), flights: make(map[string]*flight),
	}
}

// identity names a content; empty when nothing tells it from a later one of the
// same key.
func identity(ref functions.ObjectRef) string {
	if ref.Size < 0 || ref.ETag == "" && (ref.VersionID == "" || ref.VersionID == "null") {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %d %q", ref.Bucket, ref.Key, ref.VersionID, ref.ETag, ref.Size, ref.SHA256))
	return hex.EncodeToString(sum[:])
}

// charge is what a content takes of the budget.
func charge(size functions.Bytes) functions.Bytes { return max(size, block) }

// bring makes the content the file at target, which must not exist. It reports
// false when the cache can do nothing for it: it is too large, or all the room is
// in use, or the cache's own files failed.
func (c *cache) bring(ctx context.Context, id string, size functions.Bytes, target string, fetch fetcher) (bool, error) {
	for range 2 {
		e, err := c.take(ctx, id, size, fetch)
		switch {
		case errors.Is(err, errNoCache):
			c.log.Warn("input not cached", "err", err)
			return false, nil
		case err != nil:
			return true, err
		case e == nil:
			return false, nil
		}
		err = c.place(e, target)
		gone := errors.Is(err, fs.ErrNotExist)
		c.release(e, gone)
		if !gone {
			return true, err
		}
	}
	return false, nil // somebody else empties the folder
}

// take returns the content, pinned; nil when there is no room for it. Of
// many callers at once the first starts the fetch and all wait for it, each for as
// long as its own ctx lasts.
func (c *cache) take(ctx context.Context, id string, size functions.Bytes, fetch fetcher) (*content, error) {
	c.mu.Lock()
	if at := c.entries[id]; at != nil {
		e := at.Value.(*content)
		c.recent.MoveToFront(at)
		e.pins++
		c.counts.Hits++
		c.mu.Unlock()
		c.log.Debug("cache hit", "content", id, "size", size)
		return e, nil
	}
	f := c.flights[id]
	if f == nil {
		if !c.reserve(charge(size)) {
			c.mu.Unlock()
			return nil, nil
		}
		work, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{id: id, size: size, cancel: cancel, done: make(chan struct{})}
		c.flights[id] = f
		c.counts.Misses++
		c.group.Go(func() { defer cancel(); c.fly(work, f, fetch) })
		c.log.Debug("cache miss", "content", id, "size", size)
	} else {
		c.counts.Hits++
	}
	f.waiters++
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.content, f.err
	case <-ctx.Done():
		c.leave(f)
		return nil, context.Cause(ctx)
	}
}

// leave is for one who waits no longer; the last one ends the fetch.
func (c *cache) leave(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiters--
	switch {
	case f.content != nil:
		f.content.pins--
	case f.waiters == 0:
		f.cancel()
		if c.flights[f.id] == f { // the next caller starts another
			delete(c.flights, f.id)
		}
	}
}

// fly fetches the content and tells those who wait.
func (c *cache) fly(ctx context.Context, f *flight, fetch fetcher) {
	err := c.fetch(ctx, f, fetch)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	if c.flights[f.id] == f {
		delete(c.flights, f.id)
	}
	if err != nil {
		f.err = err
		c.used -= charge(f.size)
		return
	}
	at := c.entries[f.id]
	if at == nil {
		at = c.recent.PushFront(&content{id: f.id, size: f.size})
		c.entries[f.id] = at
	} else { // of a fetch that was given up and came through all the same
		c.used -= charge(f.size)
	}
	f.content = at.Value.(*content)
	f.content.pins += f.waiters
}

// fetch makes the cache's file. An error of the cache's own is errNoCache.
func (c *cache) fetch(ctx context.Context, f *flight, fetch fetcher) (err error) {
	part, err := os.CreateTemp(c.dir, f.id+".*.partial")
	if err != nil {
		return errors.Join(errNoCache, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part.Name()))
		}
	}()
	if err := fetch(ctx, part); err != nil {
		return errors.Join(err, part.Close())
	}
	info, err := part.Stat()
	if err == nil && info.Size() != int64(f.size) {
		err = fmt.Errorf("%d bytes instead of %d", info.Size(), f.size)
	}
	if err = errors.Join(err, part.Chmod(0o444), part.Close()); err == nil {
		err = os.Rename(part.Name(), c.file(f.id))
	}
	if err != nil {
		return errors.Join(errNoCache, err)
	}
	return nil
}

func (c *cache) file(id string) string { return filepath.Join(c.dir, id) }

// place links the target to the content, or copies it where links cannot be made.
// ErrNotExist means that the cache's file is not what it was.
func (c *cache) place(e *content, target string) error {
	file := c.file(e.id)
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if info.Size() != int64(e.size) {
		return fmt.Errorf("%s was %d bytes long: %w", file, e.size, fs.ErrNotExist)
	}
	// What was used last is known by its access time to the next agent.
	if err := os.Chtimes(file, c.now(), time.Time{}); err != nil {
		c.log.Debug("use of a content not noted", "err", err)
	}
	if err := c.link(file, target); err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		return err
	}
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := c.room(e.size); err != nil {
		return err
	}
	return copyTo(target, from)
}

// release ends a pin, and forgets a content whose file is gone.
func (c *cache) release(e *content, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.pins--
	if at := c.entries[e.id]; gone && at != nil && at.Value == e {
		c.forget(at)
	}
}

// reserve makes room in the budget and takes it. It evicts nothing when that is
// not enough.
func (c *cache) reserve(need functions.Bytes) bool {
	over := c.used + need - c.budget
	var victims []*list.Element
	for at := c.recent.Back(); at != nil && over > 0; at = at.Prev() {
		if e := at.Value.(*content); e.pins == 0 {
			victims = append(victims, at)
			over -= charge(e.size)
		}
	}
	if over > 0 {
		return false
	}
	for _, at := range victims {
		c.evict(at)
	}
	c.used += need
	return true
}

// shrink gives at least this much disk back, if it can, the least recently used
// first. What a task is linked to would give nothing.
func (c *cache) shrink(need functions.Bytes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.recent.Back(); at != nil && need > 0; {
		next := at.Prev()
		e := at.Value.(*content)
		if info, err := os.Lstat(c.file(e.id)); e.pins == 0 && (err != nil || links(info) < 2) {
			c.evict(at)
			need -= e.size
		}
		at = next
	}
}

func (c *cache) evict(at *list.Element) {
	e := at.Value.(*content)
	c.forget(at)
	c.counts.Evicted++
	c.log.Debug("cache content evicted", "content", e.id, "size", e.size)
}

// forget removes a content and its file.
func (c *cache) forget(at *list.Element) {
	e := c.recent.Remove(at).(*content)
	delete(c.entries, e.id)
	c.used -= charge(e.size)
	if err := removeFile(c.file(e.id)); err != nil {
		c.log.Warn("cache file not removed", "content", e.id, "err", err)
	}
}

// has reports whether the content is here or coming, and keeps it from being the
// next to go.
func (c *cache) has(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.entries[id]; at != nil {
		c.recent.MoveToFront(at)
		return true
	}
	return c.flights[id] != nil
}

// info is what the node says of its cache; nil when there is none.
func (c *cache) info() *functions.CacheInfo {
	if c.budget == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.counts
	info.Budget, info.Used = c.budget, c.used
	return &info
}
