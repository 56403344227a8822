package node

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spillway/spillway/functions"
)

// open takes over what an earlier agent has kept in this boot of the machine, and
// removes everything else.
func (c *cache) open(kernel string) error {
	if c.budget == 0 {
		return os.RemoveAll(c.dir)
	}
	boot := filepath.Join(c.dir, bootFile)
	was, err := os.ReadFile(boot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open the cache: %w", err)
	}
	if string(was) != kernel {
		if err := os.RemoveAll(c.dir); err != nil {
			return fmt.Errorf("empty the cache: %w", err)
		}
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("make the cache: %w", err)
	}
	if err := os.WriteFile(boot, []byte(kernel), 0o600); err != nil {
		return fmt.Errorf("make the cache: %w", err)
	}
	return c.recall()
}

// recall lists the contents, the one used last in front.
func (c *cache) recall() error {
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("list the cache: %w", err)
	}
	type file struct {
		content
		used time.Time
	}
	var files []file
	for _, name := range names {
		info, err := name.Info()
		switch {
		case name.Name() == bootFile:
		case err != nil || !isIdentity(name.Name()) || !info.Mode().IsRegular():
			if err := os.RemoveAll(c.file(name.Name())); err != nil {
				return fmt.Errorf("tidy the cache: %w", err)
			}
		default:
			files = append(files, file{content{id: name.Name(), size: functions.Bytes(info.Size())}, accessed(info)})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(b.used.Compare(a.used), cmp.Compare(a.id, b.id)) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range files {
		e := f.content
		c.entries[e.id] = c.recent.PushBack(&e)
		c.used += charge(e.size)
	}
	for c.used > c.budget { // it may be smaller than the earlier agent's
		c.evict(c.recent.Back())
	}
	c.log.Info("cache opened", "entries", len(c.entries), "used", c.used, "budget", c.budget)
	return nil
}

func isIdentity(name string) bool {
	raw, err := hex.DecodeString(name)
	return err == nil && len(raw) == 32
}

func accessed(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Atim.Unix())
	}
	return info.ModTime()
}

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}
