package oci

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway/spillway/runtime/cgroups"
)

// readiness gets the kernel ready to put a process into a cgroup. The first such
// move after a pause waits for a grace period of RCU, 5 to 10 milliseconds, and
// those that follow soon do not. So the agent moves itself to where it is, which
// changes nothing, while the monitor and the OCI runtime of a container start.
type readiness struct {
	where []byte   // /proc/self/cgroup as it was
	procs *os.File // of the agent's own cgroup; nil = it was not found
}

const ownCgroups = "/proc/self/cgroup"

// newReadiness finds the agent's own cgroup in one hierarchy. Where it is not
// listed in what looks like its own, as in a container that sees the host's
// cgroups by other paths, a move would be one, and there is none.
func newReadiness(c cgroups.Groups) *readiness {
	where, err := os.ReadFile(ownCgroups)
	if err != nil {
		return &readiness{}
	}
	path := c.Own(string(where))
	if path == "" {
		return &readiness{}
	}
	path = filepath.Join(path, "cgroup.procs")
	text, err := os.ReadFile(path)
	if err != nil || !slices.Contains(strings.Fields(string(text)), strconv.Itoa(os.Getpid())) {
		return &readiness{}
	}
	procs, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return &readiness{}
	}
	return &readiness{where: where, procs: procs}
}

// get returns when the kernel is ready, or at once where it cannot be helped.
func (r *readiness) get() {
	if r.procs == nil {
		return
	}
	if now, err := os.ReadFile(ownCgroups); err != nil || !bytes.Equal(now, r.where) {
		return // somebody has moved the agent, and it is to stay there
	}
	_, _ = r.procs.WriteString("0") // without it, a launch takes longer
}

func (r *readiness) close() {
	if r != nil && r.procs != nil {
		r.procs.Close()
	}
}
