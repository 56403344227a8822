package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

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

// where tells what this process shares with others only if they are in the same
// namespaces, its host's name, and every variable that it has.
func where() {
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		id, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			id = err.Error()
		}
		fmt.Println(kind, id)
	}
	host, _ := os.Hostname()
	fmt.Println("hostname", host)
	for _, kv := range os.Environ() {
		fmt.Println("variable", kv)
	}
}

// raise runs another program, which the caller gave the right to be root, and
// says as whom it runs.
func raise(program string) int {
	out, err := exec.Command(program, "whoami").CombinedOutput()
	if err != nil {
		return bad(fmt.Errorf("%w: %s", err, out))
	}
	fmt.Print(string(out))
	return 0
}

func whoami() {
	fmt.Println("effective user", syscall.Geteuid())
}

func loopback(found func(string, ...any)) {
	faces, err := net.Interfaces()
	if err != nil {
		found("%v", err)
	}
	for _, f := range faces {
		addrs, _ := f.Addrs()
		if f.Name != "lo" {
			found("interface %s with %v", f.Name, addrs)
		}
		for _, a := range addrs {
			if ip, _, err := net.ParseCIDR(a.String()); err != nil || !ip.IsLoopback() {
				found("address %s", a)
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		found("nothing can listen on 127.0.0.1: %v", err)
		return
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		found("127.0.0.1 cannot be reached: %v", err)
		return
	}
	conn.Close()
}
