package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// facts prints what this process may do, in "name value" lines.
func facts([]string) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return wire.ExitFault
	}
	out := "parent " + strconv.Itoa(os.Getppid()) + "\nuid " + strconv.Itoa(os.Getuid()) + "\n"
	for line := range strings.Lines(string(status)) {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "CapBnd", "CapEff", "NoNewPrivs", "Seccomp", "Groups":
			out += name + " " + strings.Join(strings.Fields(value), ",") + "\n"
		}
	}
	devices, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return wire.ExitFault
	}
	var names []string
	for line := range strings.Lines(string(devices)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	out += "interfaces " + strings.Join(names, ",") + "\n"
	root := "readonly"
	if os.Mkdir("/spillway-facts", 0o700) == nil {
		root = "writable"
	}
	os.Stdout.WriteString(out + "root " + root + "\n")
	return 0
}
