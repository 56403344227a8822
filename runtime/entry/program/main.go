// Command program is the entry program; see package entry. Its roles are in
// package wire.
package main

import (
	"os"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// roles by the program's first argument. Each returns the exit code.
var roles = map[string]func(args []string) int{
	wire.RoleMonitor: monitor,
	wire.RoleFacts:   facts,
}

func main() {
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		os.Stderr.WriteString("spillway entry: this program is started by Spillway's agent\n")
		os.Exit(wire.ExitFault)
	}
	os.Exit(roles[os.Args[1]](os.Args[2:]))
}
