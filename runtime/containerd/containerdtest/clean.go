package containerdtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clean ends the daemon, then the shims that a test left and what runs below
// them, and removes mounts and files.
func (d *Daemon) clean() {
	sockets := d.sockets()
	if d.process != nil {
		d.settle()
		d.end()
	}
	if d.t.Failed() {
		d.t.Logf("the end of containerd's log:\n%s", d.logged())
	}
	for _, pid := range d.shims() {
		d.t.Logf("a shim was left: %d", pid)
		kill(pid)
	}
	for _, path := range sockets {
		os.Remove(path) // a shim that ended by itself has done it
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		d.t.Error(err)
	}
	lines := strings.Split(string(mounts), "\n")
	for _, line := range slices.Backward(lines) { // the newest first
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], d.root+"/") {
			syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(d.root); err != nil {
		d.t.Errorf("remove containerd's files: %v", err)
	}
}

// end asks the daemon to stop, and kills it after a while.
func (d *Daemon) end() {
	d.process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-d.ended:
	case <-timer.C:
		d.t.Errorf("containerd did not stop in %v", stopLimit)
		d.process.Kill()
		<-d.ended
	}
}

// settle waits for the shims to end, and for what containerd starts to clean up
// after one that was killed.
func (d *Daemon) settle() {
	for limit := time.Now().Add(settleLimit); len(d.shims()) > 0 && time.Now().Before(limit); {
		time.Sleep(20 * time.Millisecond)
	}
}

// KillShims kills what stands between the daemon and its containers.
func (d *Daemon) KillShims() {
	sockets := d.sockets()
	for _, pid := range d.shims() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, path := range sockets {
		os.Remove(path) // which nobody else does
	}
}

// sockets are where the shims listen, outside of the daemon's folder.
func (d *Daemon) sockets() []string {
	notes, err := filepath.Glob(d.file("run/io.containerd.runtime.v2.task/*/*/address"))
	if err != nil {
		d.t.Error(err)
	}
	var paths []string
	for _, note := range notes {
		if text, err := os.ReadFile(note); err == nil {
			paths = append(paths, strings.TrimPrefix(string(text), "unix://"))
		}
	}
	return paths
}

// shims are the processes that were told this daemon's address.
func (d *Daemon) shims() []int {
	var found []int
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		d.t.Error(err)
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && slices.Contains(strings.Split(string(text), "\x00"), d.Address) {
			found = append(found, pid)
		}
	}
	return found
}

// kill ends a process and all below it, the upper ones first so that they bring
// up no more.
func kill(pid int) {
	syscall.Kill(pid, syscall.SIGSTOP)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err == nil {
		for child := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				kill(n)
			}
		}
	}
	syscall.Kill(pid, syscall.SIGKILL)
}
