package entry

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/entry/wire"
)

//go:embed all:bin
var built embed.FS

// Install puts the entry program into a directory, which it makes, and returns
// its absolute path. The name has the content's hash, so that containers of an
// older Spillway keep theirs and a second call finds what the first one wrote.
// ErrUnavailable means that spillway was built without the program.
func Install(dir string) (string, error) {
	program, err := fs.ReadFile(built, "bin/entry")
	if errors.Is(err, fs.ErrNotExist) {
		return "", functions.Unavailable("no_entry_program", "this spillway was built without the program that starts first in containers").
			WithHint(`build it with make entry, then build spillway again; "make build" does both`)
	}
	if err != nil {
		return "", fmt.Errorf("read the embedded entry program: %w", err)
	}
	return install(dir, program)
}

// install writes a program under the name of its content, unless it is there.
func install(dir string, program []byte) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("install the entry program: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("install the entry program: %w", err)
	}
	sum := sha256.Sum256(program)
	path := filepath.Join(dir, "entry-"+hex.EncodeToString(sum[:8]))
	if have, err := os.ReadFile(path); err == nil && sha256.Sum256(have) == sum {
		return path, nil
	}
	if err := executable(dir); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, ".entry-*")
	if err != nil {
		return "", fmt.Errorf("install the entry program: %w", err)
	}
	defer os.Remove(f.Name()) // fails when all went well
	_, err = f.Write(program)
	err = errors.Join(err, f.Chmod(0o555), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("install the entry program: %w", err)
	}
	return path, nil
}

// executable refuses a directory on a file system whose programs cannot be run:
// a bind mount of one of its files would not run either.
func executable(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("install the entry program: statfs %s: %w", dir, err)
	}
	if s.Flags&unix.ST_NOEXEC != 0 {
		return functions.Unavailable("noexec", "%s is mounted noexec, so that no container could run the entry program from it", dir).
			WithHint("put the node's data directory on a file system that is mounted without noexec")
	}
	return nil
}

// Options say what the entry program hands over to the agent.
type Options struct {
	API   bool // a listener on 127.0.0.1:9001
	S3    bool // a listener on 127.0.0.1:9002
	Conns int  // how many connections into the container there can be at once, up to wire.MaxConns
	// Expect is the first word of the command that the orders will probably have.
	// It is read ahead, so that the orders find it in memory; empty = nothing is.
	Expect string
}

// Command is the entrypoint of a container that waits for orders. Beside it the
// container needs a Door's Mounts.
func Command(o Options) []string {
	argv := []string{wire.Program, wire.RoleHold}
	if o.API {
		argv = append(argv, wire.FlagAPI)
	}
	if o.S3 {
		argv = append(argv, wire.FlagS3)
	}
	if o.Conns > 0 {
		argv = append(argv, wire.FlagConns, strconv.Itoa(o.Conns))
	}
	if o.Expect != "" {
		argv = append(argv, wire.FlagRead, o.Expect)
	}
	return argv
}
