package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// command is what is to be run: a program that was found, and what it gets.
type command struct {
	path string
	argv []string
	env  []string
	dir  string // empty = here
}

// refusal is why a command cannot be run, in the words of container engines.
type refusal struct {
	code  int // to exit with
	words string
}

func (c *command) refused(err error) *refusal {
	r := &refusal{wire.ExitNoExec, "exec: " + strconv.Quote(c.argv[0]) + ": " + err.Error()}
	switch err {
	case syscall.ENOENT, syscall.ENOTDIR:
		r.code = wire.ExitMissing
	case syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE:
		r.code = wire.ExitFault
	}
	return r
}

// prepare finds the program as execvp does: by the PATH that it will have, if
// its name has no slash.
func prepare(argv, env []string, dir string) (*command, *refusal) {
	c := &command{path: argv[0], argv: argv, env: env, dir: dir}
	if dir != "" {
		if err := syscall.Access(dir, 1); err != nil {
			return nil, &refusal{wire.ExitNoExec, "chdir to cwd (" + strconv.Quote(dir) + "): " + err.Error()}
		}
	}
	if strings.Contains(argv[0], "/") {
		return c, nil
	}
	var mode os.FileMode
	for place := range strings.SplitSeq(lookup(env, "PATH"), ":") {
		if place == "" {
			place = "."
		}
		path := place + "/" + argv[0]
		at := path
		if dir != "" && path[0] != '/' {
			at = dir + "/" + path
		}
		info, err := os.Stat(at)
		if err != nil || info.IsDir() {
			continue
		}
		if mode = info.Mode(); mode&0o111 != 0 {
			c.path = path
			return c, nil
		}
	}
	if mode != 0 {
		return nil, c.refused(syscall.EACCES)
	}
	return nil, &refusal{wire.ExitMissing, "exec: " + strconv.Quote(argv[0]) + ": executable file not found in $PATH"}
}

// replace makes this process the command's. It returns only when it fails.
func (c *command) replace() *refusal {
	if c.dir != "" {
		if err := syscall.Chdir(c.dir); err != nil {
			return c.refused(err)
		}
	}
	return c.refused(syscall.Exec(c.path, c.argv, c.env))
}

// start runs the command with these standard streams, as the leader of a process
// group of its own.
func (c *command) start(stdin, stdout, stderr int) (pid int, r *refusal) {
	pid, err := syscall.ForkExec(c.path, c.argv, &syscall.ProcAttr{
		Dir: c.dir, Env: c.env, Files: []uintptr{uintptr(stdin), uintptr(stdout), uintptr(stderr)},
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, c.refused(err)
	}
	return pid, nil
}

func lookup(env []string, name string) string {
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}
