package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spillway/spillway/functions"
	"golang.org/x/sys/unix"
)

// folder is where an attempt keeps its files.
type folder string

func newFolder(dataDir string, k key) folder {
	return folder(filepath.Join(dataDir, "tasks", string(k.task)+"."+strconv.Itoa(k.attempt)))
}

func (f folder) path(elem ...string) string {
	return filepath.Join(append([]string{string(f)}, elem...)...)
}

func (f folder) journal() string { return f.path("attempt.jsonl") }
func (f folder) event() string   { return f.path("event.json") }
func (f folder) log() string     { return f.path("log.jsonl") }
func (f folder) in() string      { return f.path("in") }
func (f folder) work() string    { return f.path("work") }
func (f folder) tmp() string     { return f.path("tmp") }

func (f folder) make() error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return fmt.Errorf("make task folder: %w", err)
	}
	return nil
}

// removeAll deletes the attempt's files.
func (f folder) removeAll() error {
	if err := errors.Join(unbind(f.in()), os.RemoveAll(string(f))); err != nil {
		return fmt.Errorf("remove task folder: %w", err)
	}
	return nil
}

// owner is the user of every container.
type owner struct{ uid, gid int }

func (o owner) String() string { return fmt.Sprintf("%d:%d", o.uid, o.gid) }

// nobody is the user that distroless images call nonroot. It owns nothing on a
// usual host.
const nobody = 65532

// containerUser is nobody when the agent may give files away, else the agent's
// own user: no other could write to the folders that it makes.
func containerUser() owner {
	if os.Geteuid() == 0 {
		return owner{nobody, nobody}
	}
	return owner{os.Geteuid(), os.Getegid()}
}

// writeJSON replaces a file at once and for good: after a crash it is whole.
func writeJSON(path string, v any) (err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", filepath.Base(path), err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

// syncPath syncs a file or a folder.
func syncPath(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readJSON reports false when there is no such file.
func readJSON(path string, v any) (bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return true, nil
}

// lockFolder makes sure that one agent works in a folder at a time.
func lockFolder(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Join(dir, "tasks"), 0o700); err != nil {
		return nil, fmt.Errorf("make node folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock node folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, functions.Conflict("node_runs", "another node agent works in %s", dir).WithCause(errors.Join(err, f.Close()))
	}
	return func() { f.Close() }, nil // closing unlocks
}
