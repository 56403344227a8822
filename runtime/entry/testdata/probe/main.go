// Command probe is what the tests of the entry program run in a container: each
// verb shows one thing that the entry program is to bring about.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// self is where the tests mount this program.
const self = "/probe"

func main() {
	verbs := map[string]func(args []string) error{
		"serve": serve, "get": get, "write": write, "leave": leave, "orphans": orphans, "parent": parent,
		"sleep": sleep, "steal": steal, "caught": caught, "lines": lines, "descriptors": descriptors,
	}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "probe: no such verb")
		os.Exit(64)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

// serve PORT answers each line in capitals, until it is killed.
func serve(args []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	if err != nil {
		return err
	}
	fmt.Println("serving")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for in := bufio.NewScanner(c); in.Scan(); {
				fmt.Fprintln(c, strings.ToUpper(in.Text()))
			}
		}()
	}
}

// get URL prints what a server says.
func get(args []string) error {
	r, err := http.Get(args[0])
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(os.Stdout, r.Body)
	return err
}

// write N writes that many bytes to standard output, and half of it to the other.
func write(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if _, err := os.Stdout.Write(bytes.Repeat([]byte("0123456789abcde\n"), n/16)); err != nil {
		return err
	}
	_, err = os.Stderr.Write(bytes.Repeat([]byte("error 789abcde\n\n"), n/32))
	return err
}

// leave leaves a child behind that holds standard output.
func leave([]string) error {
	c := exec.Command(self, "sleep")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	fmt.Println("left")
	return nil
}

func sleep([]string) error {
	time.Sleep(time.Hour)
	return nil
}

// parent starts a child that ends after it does.
func parent([]string) error { return exec.Command("/box", "sleep", "50ms").Start() }

// orphans N makes orphans and waits until none of them is left, as a zombie or
// otherwise.
func orphans(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range n {
		if err := exec.Command(self, "parent").Run(); err != nil {
			return err
		}
	}
	for {
		left := 0
		found, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range found {
			if stat, err := os.ReadFile(path); err == nil && bytes.Contains(stat, []byte("(box)")) {
				left++
			}
		}
		if left == 0 {
			fmt.Println("none left")
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// steal tries what a hostile command would, to speak to the agent itself.
func steal([]string) error {
	parent := os.Getppid()
	if _, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", parent)); err == nil {
		fmt.Println("its descriptors can be listed")
	}
	if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", parent)); err == nil {
		fmt.Println("its environment can be read")
	}
	if p, _, e := syscall.Syscall(434, uintptr(parent), 0, 0); e == 0 { // pidfd_open
		for fd := range uintptr(32) {
			if _, _, e := syscall.Syscall(438, p, fd, 0); e == 0 { // pidfd_getfd
				fmt.Println("a descriptor can be taken")
			}
		}
	}
	if c, err := net.Dial("unix", "/run/spillway/agent.sock"); err == nil {
		c.Close()
		fmt.Println("the agent answers")
	}
	if err := os.WriteFile("/run/spillway/agent.sock", nil, 0o600); err == nil {
		fmt.Println("the door can be changed")
	}
	goruntime.LockOSThread() // that traces is a thread's matter
	if err := syscall.PtraceAttach(parent); err == nil {
		var stopped syscall.WaitStatus
		if _, err := syscall.Wait4(parent, &stopped, 0, nil); err != nil {
			return err
		}
		if err := syscall.PtraceDetach(parent); err != nil {
			return err
		}
		fmt.Println("it can be traced")
	}
	fmt.Println("tried")
	return nil
}

// caught says which of its signals came, and ends after SIGTERM.
func caught([]string) error {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	fmt.Println("ready")
	for s := range c {
		fmt.Println("caught", int(s.(syscall.Signal)))
		if s == syscall.SIGTERM {
			return nil
		}
	}
	return nil
}

// lines N PAUSE writes lines with a pause between two.
func lines(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	pause, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	for i := range n {
		fmt.Println("line", i)
		time.Sleep(pause)
	}
	return nil
}

// descriptors says which descriptors it was started with.
func descriptors([]string) error {
	for fd := range 64 {
		var s syscall.Stat_t
		if syscall.Fstat(fd, &s) == nil {
			to, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			kind, _, _ := strings.Cut(to, ":")
			fmt.Println(fd, kind)
		}
	}
	var ignored string
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			ignored = strings.TrimSpace(rest)
		}
	}
	fmt.Println("ignored", ignored)
	return nil
}
