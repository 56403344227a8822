package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// folder is where the driver keeps what belongs to one container. It is the
// container's as long as the container is in containerd's list.
type folder string

func (d *Driver) folder(id runtime.ID) folder {
	return folder(filepath.Join(d.cfg.StateDir, string(id)))
}

func (f folder) stdin() string   { return filepath.Join(string(f), "stdin") }
func (f folder) hosts() string   { return filepath.Join(string(f), "hosts") }
func (f folder) log() string     { return filepath.Join(string(f), "log") }
func (f folder) exit() string    { return filepath.Join(string(f), "exit") }
func (f folder) started() string { return filepath.Join(string(f), "started") }

const hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

// make makes the folder anew; what an interrupted launch left is no one's.
func (f folder) make() error {
	if err := os.RemoveAll(string(f)); err != nil {
		return fmt.Errorf("clear the container's folder: %w", err)
	}
	if err := os.Mkdir(string(f), 0o700); err != nil {
		return fmt.Errorf("make the container's folder: %w", err)
	}
	for path, text := range map[string]string{f.stdin(): "", f.hosts(): hosts} {
		err := os.WriteFile(path, []byte(text), 0o644)
		if err = errors.Join(err, os.Chmod(path, 0o644)); err != nil { // the container's user reads them, whatever the umask is
			return fmt.Errorf("fill the container's folder: %w", err)
		}
	}
	return nil
}

// begin notes that the container is started and what it reads. The files are
// mounted already, so they are written in place.
func (f folder) begin(stdin []byte, now time.Time) error {
	mark, err := os.OpenFile(f.started(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return functions.Conflict("already_started", "the container was started before")
	case errors.Is(err, fs.ErrNotExist):
		return functions.NotFound("container_missing", "the container is gone")
	case err != nil:
		return fmt.Errorf("note the container's start: %w", err)
	}
	text, err := now.UTC().MarshalText()
	if err == nil {
		_, err = mark.Write(text)
	}
	if err = errors.Join(err, mark.Close()); err == nil && len(stdin) > 0 {
		err = os.WriteFile(f.stdin(), stdin, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the container's input: %w", errors.Join(err, f.unbegin()))
	}
	return nil
}

// unbegin undoes the note of a start that failed.
func (f folder) unbegin() error { return os.Remove(f.started()) }

// startedAt is when the container was started; zero when it was not.
func (f folder) startedAt() time.Time {
	text, err := os.ReadFile(f.started())
	if err != nil {
		return time.Time{}
	}
	var t time.Time
	if t.UnmarshalText(text) != nil {
		return time.Time{}
	}
	return t
}

// lastOutput is when the container last wrote, as far as one can tell.
func (f folder) lastOutput() time.Time {
	info, err := os.Stat(f.log())
	if err != nil {
		return time.Time{}
	}
	return info.ModTime().UTC()
}
