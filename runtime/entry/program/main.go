// Command program is the entry program; see package entry. Its roles are in
// package wire. It goes without fmt and encoding/json: it is to stay under 2 MB.
//
// It starts with every container, and it has no use for what the Go runtime
// reads of cgroups and mounts at its start to know how many processors it has:
// that reading waits for every change of a cgroup on the machine.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"os"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// roles by the program's first argument. Each returns the exit code.
var roles = map[string]func(args []string) int{
	wire.RoleHold:    hold,
	wire.RoleInit:    initialize,
	wire.RoleLog:     keepLog,
	wire.RoleMonitor: monitor,
	wire.RoleFacts:   facts,
}

func main() {
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		os.Exit(fault("this program is started by Spillway's agent"))
	}
	os.Exit(roles[os.Args[1]](os.Args[2:]))
}

// fault says on standard error why the program failed, and returns its exit code.
func fault(why string) int {
	os.Stderr.WriteString("spillway entry: " + why + "\n")
	return wire.ExitFault
}
