package oci

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// seals are those by which a runtime knows a copy of itself that no container
// can write to.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// seal copies a program into sealed memory. crun and runc both do it with
// themselves at each start, and execute the copy, so that a container cannot
// overwrite the program through /proc/self/exe; one that is executed from such a
// copy does not. A script, which cannot be executed from there, gives nil.
func seal(path string) (*os.File, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(program, []byte("\x7fELF")) {
		return nil, nil
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("oci-runtime", flags|unix.MFD_EXEC)
	if err != nil { // before Linux 6.3 there is no such flag, and no need for it
		fd, err = unix.MemfdCreate("oci-runtime", flags)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), path)
	_, err = f.Write(program)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("copy %s into sealed memory: %w", path, err)
	}
	return f, nil
}
