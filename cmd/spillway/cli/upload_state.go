package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spillway/spillway/functions"
)

// remembered is what the next run must know of an upload that did not end. It
// holds no key and nothing signed.
type remembered struct {
	ID       functions.TaskID `json:"id"`
	Path     string           `json:"path"` // for who looks into the folder
	Size     int64            `json:"size"`
	Modified time.Time        `json:"modified"`
}

// of reports whether the file is still what it was.
func (r remembered) of(st os.FileInfo) bool {
	return r.Size == st.Size() && r.Modified.Equal(st.ModTime())
}

// memory is one small file that survives the process. It is locked while the
// process lives: who runs the same command meanwhile means another upload. A nil
// memory remembers nothing.
type memory struct{ file *os.File }

// remember opens the memory of this command for this file: the same server,
// function, path, device and event. It is nil where the caller wants none or
// another process has it.
func (u *uploader) remember() (*memory, error) {
	if u.o.resume != "" {
		return nil, nil
	}
	dir := u.app.Getenv("XDG_CACHE_HOME")
	if dir == "" {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return nil, err
		}
	}
	dir = filepath.Join(dir, "spillway", "uploads")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := json.Marshal([]string{u.c.base, u.o.function, u.path, u.o.device, string(u.o.event)})
	if err != nil {
		return nil, fmt.Errorf("name the upload: %w", err)
	}
	sum := sha256.Sum256(key)
	m, err := lockFile(filepath.Join(dir, hex.EncodeToString(sum[:])+".json"))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		u.say("another process uploads this file; this is an upload of its own")
		return nil, nil
	}
	return m, err
}

// lockFile opens and locks a file. One that was removed between the two is no
// longer the memory: the next look finds its successor.
func lockFile(path string) (*memory, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		ours, err := f.Stat()
		if err == nil {
			var there os.FileInfo
			if there, err = os.Stat(path); err == nil && os.SameFile(ours, there) {
				return &memory{f}, nil
			}
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// recall returns what was kept; what cannot be read was not kept whole.
func (m *memory) recall() (r remembered) {
	if m == nil {
		return r
	}
	b, err := io.ReadAll(io.NewSectionReader(m.file, 0, 1<<16))
	if err != nil || json.Unmarshal(b, &r) != nil {
		return remembered{}
	}
	return r
}

// keep writes r durably, before the first byte of the upload.
func (m *memory) keep(r remembered) error {
	if m == nil {
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the upload: %w", err)
	}
	if err := m.file.Truncate(0); err != nil {
		return err
	}
	_, err = m.file.WriteAt(b, 0)
	return cmp.Or(err, m.file.Sync())
}

// forget removes the memory of an upload that is complete. One that stays is
// found complete by the next run.
func (m *memory) forget() {
	if m != nil {
		_ = os.Remove(m.file.Name())
	}
}

// close lets others have the memory.
func (m *memory) close() {
	if m == nil {
		return
	}
	if r := m.recall(); r.ID == "" { // nothing was begun
		m.forget()
	}
	_ = m.file.Close()
}
