// Command box is the only program of the small test image: a handful of verbs
// with which a test makes a container do one thing.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "box: no verb")
		os.Exit(64)
	}
	os.Exit(run(os.Args[1], os.Args[2:]))
}

func run(verb string, args []string) int {
	switch verb {
	case "echo": // echo WORDS: to stdout
		fmt.Println(strings.Join(args, " "))
	case "warn": // warn WORDS: to stderr
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	case "fail": // fail CODE WORDS: to stderr, then exit
		fmt.Fprintln(os.Stderr, strings.Join(args[1:], " "))
		return number(args[0])
	case "exit": // exit CODE
		return number(args[0])
	case "sleep": // sleep DURATION
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return bad(err)
		}
		time.Sleep(d)
	case "cat": // cat: stdin to stdout; cat FILE
		from := io.Reader(os.Stdin)
		if len(args) > 0 {
			f, err := os.Open(args[0])
			if err != nil {
				return bad(err)
			}
			from = f
		}
		if _, err := io.Copy(os.Stdout, from); err != nil {
			return bad(err)
		}
	case "lines": // lines N: to stdout and to stderr, N each
		out, err := bufio.NewWriter(os.Stdout), bufio.NewWriter(os.Stderr)
		for i := range number(args[0]) {
			fmt.Fprintf(out, "out %d\n", i)
			fmt.Fprintf(err, "err %d\n", i)
		}
		out.Flush()
		err.Flush()
	case "env": // env NAME
		fmt.Println(os.Getenv(args[0]))
	case "trap": // trap CODE: say ready, wait for SIGTERM, exit with CODE
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		fmt.Println("terminated")
		return number(args[0])
	case "deaf": // deaf: say ready, ignore SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "wait": // wait: say ready, die of SIGTERM
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "signal": // signal N: to itself
		if err := syscall.Kill(os.Getpid(), syscall.Signal(number(args[0]))); err != nil {
			return bad(err)
		}
		time.Sleep(time.Hour)
	case "alloc": // alloc MIB: take memory and touch it
		held := make([]byte, number(args[0])<<20)
		for i := 0; i < len(held); i += 4096 {
			held[i] = 1
		}
		fmt.Println("allocated", len(held))
	case "fork": // fork N: start N children at once; say how many lived
		return fork(number(args[0]))
	case "write": // write FILE MIB: a file of zeros
		return write(args[0], number(args[1]))
	case "reread": // reread FILE: print it, wait for SIGTERM, print it again
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		if code := run("cat", args); code != 0 {
			return code
		}
		<-c
		return run("cat", args)
	case "harm": // harm FILE ELSEWHERE: name every way in which the file could be changed
		return harm(args[0], args[1])
	case "now": // now: when it came to run, in nanoseconds
		fmt.Println(time.Now().UnixNano())
	case "leave": // leave FILE: start a child that writes to the file, and exit
		if err := exec.Command("/box", "scribble", args[0]).Start(); err != nil {
			return bad(err)
		}
		for info, err := os.Stat(args[0]); err != nil || info.Size() == 0; info, err = os.Stat(args[0]) {
			time.Sleep(time.Millisecond)
		}
	case "scribble": // scribble FILE: add to the file for ever
		f, err := os.Create(args[0])
		for err == nil {
			_, err = f.WriteString("x")
			time.Sleep(time.Millisecond)
		}
		return bad(err)
	case "facts": // facts: what the kernel says of this process
		facts()
	default:
		fmt.Fprintln(os.Stderr, "box: unknown verb", verb)
		return 64
	}
	return 0
}

func fork(n int) int {
	var children []*exec.Cmd
	for range n {
		c := exec.Command("/box", "wait")
		if err := c.Start(); err != nil {
			fmt.Println("refused:", err)
			break
		}
		children = append(children, c)
	}
	fmt.Println("children", len(children))
	for _, c := range children {
		c.Process.Kill()
		c.Wait()
	}
	return 0
}

func write(path string, mib int) int {
	signal.Ignore(syscall.SIGXFSZ) // the write then fails with EFBIG
	f, err := os.Create(path)
	if err != nil {
		return bad(err)
	}
	block := make([]byte, 1<<20)
	for range mib {
		if _, err := f.Write(block); err != nil {
			return bad(err)
		}
	}
	if err := f.Close(); err != nil {
		return bad(err)
	}
	return 0
}

// harm tries to change a file, or to make a name for it where it could be changed.
func harm(path, elsewhere string) int {
	done := 0
	for _, c := range []struct {
		name string
		try  func() error
	}{
		{"write", func() error { return os.WriteFile(path, []byte("harm"), 0) }},
		{"append", func() error { return opened(path, os.O_WRONLY|os.O_APPEND) }},
		{"truncate", func() error { return os.Truncate(path, 0) }},
		{"mode", func() error { return os.Chmod(path, 0o777) }},
		{"owner", func() error { return os.Chown(path, os.Getuid(), os.Getgid()) }},
		{"times", func() error { return os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)) }},
		{"attribute", func() error { return syscall.Setxattr(path, "user.etag", []byte("harm"), 0) }},
		{"link", func() error { return os.Link(path, elsewhere) }},
		{"move", func() error { return os.Rename(path, elsewhere) }},
		{"remove", func() error { return os.Remove(path) }},
		{"beside", func() error { return os.WriteFile(path+"2", nil, 0o600) }},
		{"remount", func() error {
			return syscall.Mount("", filepath.Dir(path), "", syscall.MS_REMOUNT|syscall.MS_BIND, "")
		}},
		{"descriptor", func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return opened("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), os.O_WRONLY)
		}},
	} {
		if err := c.try(); err != nil {
			fmt.Fprintln(os.Stderr, c.name, "refused:", err)
			continue
		}
		fmt.Println(c.name)
		done++
	}
	return done
}

func opened(path string, flag int) error {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func facts() {
	fmt.Println("uid", os.Getuid(), "gid", os.Getgid())
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff") || strings.HasPrefix(line, "CapBnd") || strings.HasPrefix(line, "NoNewPrivs") {
			fmt.Println(strings.Join(strings.Fields(line), " "))
		}
	}
	faces, _ := net.Interfaces()
	names := make([]string, len(faces))
	for i, f := range faces {
		names[i] = f.Name
	}
	fmt.Println("interfaces", strings.Join(names, ","))
	exe, _ := os.Readlink("/proc/1/exe")
	fmt.Println("pid", os.Getpid(), "init", filepath.Base(exe))
	if err := os.WriteFile("/root-file", nil, 0o600); err != nil {
		fmt.Println("root", err)
	} else {
		fmt.Println("root is writable")
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "box:", err)
		os.Exit(64)
	}
	return n
}

func bad(err error) int {
	fmt.Fprintln(os.Stderr, "box:", err)
	return 1
}
