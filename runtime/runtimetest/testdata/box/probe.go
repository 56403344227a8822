package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// probes look for a way out of the sandbox, or for something of the host in it.
// Each says what it found, and nothing when all is shut.
var probes = []struct {
	name string
	look func(found func(format string, args ...any))
}{
	{"filter", filter},
	{"capabilities", capabilities},
	{"calls", calls},
	{"namespaces", namespaces},
	{"masked", masked},
	{"read-only", readOnly},
	{"cgroups", cgroups},
	{"processes", processes},
	{"groups", groups},
	{"root", root},
	{"devices", devices},
	{"mounts", mounts},
	{"core", core},
	{"descriptors", descriptors},
	{"loopback", loopback},
}

// probe does all of them. The line "probed NAME" ends each, so that one that
// died is not taken for one that found nothing.
func probe() int {
	for _, p := range probes {
		p.look(func(format string, args ...any) {
			fmt.Printf("%s: %s\n", p.name, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
		})
		fmt.Println("probed", p.name)
	}
	return 0
}

// status returns the fields of one line of /proc/self/status.
func status(name string) []string {
	text, _ := os.ReadFile("/proc/self/status") // a line that is missing is told by the caller
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Fields(rest)
		}
	}
	return []string{"missing"}
}

func filter(found func(string, ...any)) {
	if mode := status("Seccomp"); !slices.Equal(mode, []string{"2"}) {
		found("seccomp mode %v, want 2", mode)
	}
	if flag := status("NoNewPrivs"); !slices.Equal(flag, []string{"1"}) {
		found("NoNewPrivs %v, want 1", flag)
	}
}

func capabilities(found func(string, ...any)) {
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if bits := status(set); strings.Trim(strings.Join(bits, " "), "0") != "" {
			found("%s %v, want none", set, bits)
		}
	}
}

// nowhere is an address that no process has. A call that gets as far as reading
// it fails with EFAULT: nothing stood before it.
const nowhere = ^uintptr(4095)

const noFD = ^uintptr(0)

// calls makes each call with arguments that do no harm where nothing refuses it:
// it then fails in another way than by refusal, or does something for this
// process alone.
func calls(found func(string, ...any)) {
	for _, c := range []struct {
		name       string
		call       uintptr
		a, b, c, d uintptr
	}{
		{"mount", unix.SYS_MOUNT, nowhere, nowhere, nowhere, 0},
		{"umount2", unix.SYS_UMOUNT2, nowhere, 0, 0, 0},
		{"pivot_root", unix.SYS_PIVOT_ROOT, nowhere, nowhere, 0, 0},
		{"move_mount", unix.SYS_MOVE_MOUNT, noFD, nowhere, noFD, nowhere},
		{"open_tree", unix.SYS_OPEN_TREE, noFD, nowhere, 0, 0},
		{"fsopen", unix.SYS_FSOPEN, nowhere, 0, 0, 0},
		{"unshare of a user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0, 0},
		{"unshare of a mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS, 0, 0, 0},
		{"setns", unix.SYS_SETNS, noFD, 0, 0, 0},
		{"clone3", unix.SYS_CLONE3, nowhere, 0, 0, 0},
		{"bpf", unix.SYS_BPF, 1 << 20, 0, 0, 0},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, nowhere, 0, noFD, noFD},
		{"keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, uintptr(1<<64 - 3), 0, 0},
		{"add_key", unix.SYS_ADD_KEY, nowhere, nowhere, 0, 0},
		{"request_key", unix.SYS_REQUEST_KEY, nowhere, nowhere, 0, 0},
		{"kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, nowhere},
		{"init_module", unix.SYS_INIT_MODULE, nowhere, 0, nowhere, 0},
		{"finit_module", unix.SYS_FINIT_MODULE, noFD, nowhere, 0, 0},
		{"delete_module", unix.SYS_DELETE_MODULE, nowhere, 0, 0, 0},
		{"reboot", unix.SYS_REBOOT, 0, 0, 0, 0},
		{"swapon", unix.SYS_SWAPON, nowhere, 0, 0, 0},
		{"swapoff", unix.SYS_SWAPOFF, nowhere, 0, 0, 0},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, noFD, nowhere, 0, 0},
		{"userfaultfd", unix.SYS_USERFAULTFD, 1, 0, 0, 0}, // of user space's faults alone, which anyone may
		{"acct", unix.SYS_ACCT, nowhere, 0, 0, 0},
		{"quotactl", unix.SYS_QUOTACTL, nowhere, nowhere, 0, nowhere},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, nowhere, 0, 0, 0},
		{"personality without randomised addresses", unix.SYS_PERSONALITY, 0x0040000, 0, 0, 0},
	} {
		if _, _, err := syscall.Syscall6(c.call, c.a, c.b, c.c, c.d, 0, 0); err != syscall.EPERM && err != syscall.ENOSYS {
			found("%s is not refused: %v", c.name, err)
		}
	}
}

// namespaces tries to make each kind with a child.
func namespaces(found func(string, ...any)) {
	for name, flag := range map[string]uintptr{
		"user": unix.CLONE_NEWUSER, "mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "net": unix.CLONE_NEWNET,
		"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP,
	} {
		child := exec.Command("/proc/self/exe", "exit", "0")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flag}
		if err := child.Run(); err == nil {
			found("a new %s namespace", name)
		}
	}
}

func masked(found func(string, ...any)) {
	for _, path := range []string{
		"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/acpi", "/proc/asound", "/sys/firmware",
	} {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if info.IsDir() {
			if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
				found("%s has %d entries", path, len(entries))
			}
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if n, _ := f.Read(make([]byte, 16)); n > 0 {
			found("%s can be read", path)
		}
		f.Close()
	}
}

func readOnly(found func(string, ...any)) {
	for _, path := range []string{"/", "/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err == nil && fs.Flags&unix.ST_RDONLY == 0 {
			found("%s is on a writable mount", path)
		}
	}
	for _, path := range []string{"/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_helper"} {
		if opened(path, os.O_WRONLY) == nil {
			found("%s can be opened to write", path)
		}
	}
}

func cgroups(found func(string, ...any)) {
	// What is not there cannot be written; a hierarchy may be anywhere below.
	for _, m := range mountTable() {
		if m.kind != "cgroup" && m.kind != "cgroup2" {
			continue
		}
		if made := filepath.Join(m.target, "box"); os.Mkdir(made, 0o700) == nil {
			os.Remove(made)
			found("a group can be made in %s", m.target)
		}
		for _, name := range []string{"cgroup.procs", "release_agent", "memory.limit_in_bytes", "memory.max", "pids.max"} {
			if opened(filepath.Join(m.target, name), os.O_WRONLY) == nil {
				found("%s of %s can be opened to write", name, m.target)
			}
		}
	}
}

func processes(found func(string, ...any)) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		found("%v", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		name, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "comm")) // it may have ended
		found("process %d, %s", pid, strings.TrimSpace(string(name)))
	}
}

func groups(found func(string, ...any)) {
	for _, g := range status("Groups") {
		if g != strconv.Itoa(os.Getgid()) {
			found("group %s", g)
		}
	}
}

func root(found func(string, ...any)) {
	for _, dir := range []string{"/", "/proc", "/sys", "/etc", "/dev"} {
		made := filepath.Join(dir, "box-made")
		if os.WriteFile(made, nil, 0o600) == nil {
			os.Remove(made)
			if dir != "/dev" { // which is memory of its own
				found("a file can be made in %s", dir)
			}
		}
	}
	if opened("/box", os.O_WRONLY) == nil {
		found("the program of the image can be opened to write")
	}
}

func devices(found func(string, ...any)) {
	for _, dir := range []string{"/dev", "/dev/shm", "/tmp", "/"} {
		made := filepath.Join(dir, "box-node")
		for name, d := range map[string]struct{ mode, major, minor uint32 }{
			"disk": {unix.S_IFBLK, 8, 0}, "memory": {unix.S_IFCHR, 1, 1}, "null": {unix.S_IFCHR, 1, 3},
		} {
			if unix.Mknod(made, d.mode|0o600, int(unix.Mkdev(d.major, d.minor))) == nil {
				os.Remove(made)
				found("a node for %s can be made in %s", name, dir)
			}
		}
	}
	usual := []string{"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd", "stdin", "stdout", "stderr", "core"}
	entries, err := os.ReadDir("/dev")
	if err != nil {
		found("%v", err)
	}
	for _, e := range entries {
		if !slices.Contains(usual, e.Name()) {
			found("/dev/%s", e.Name())
		}
	}
}

// mountPoint is one line of what this process has mounted.
type mountPoint struct{ target, kind, source string }

func mountTable() []mountPoint {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return []mountPoint{{"?", "?", err.Error()}}
	}
	defer f.Close()
	var all []mountPoint
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if len(b) > 4 && len(a) > 1 {
			all = append(all, mountPoint{b[4], a[0], a[1]})
		}
	}
	return all
}

// mounts tells every mount that is none of the kernel's own file systems, of the
// engine's three files of names, or the program that goes before this one.
func mounts(found func(string, ...any)) {
	first, _ := os.Readlink("/proc/1/exe") // unreadable: then none is excused
	for _, m := range mountTable() {
		switch {
		case m.target == "/", m.target == first, slices.Contains([]string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}, m.target):
		case slices.Contains([]string{"proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "tmpfs"}, m.kind) && kernels(m.target):
		case strings.HasPrefix(m.target, "/proc/") || m.target == "/dev/null": // a mask, and what masks are made of
		default:
			found("%s of kind %s from %s", m.target, m.kind, m.source)
		}
	}
}

func kernels(target string) bool {
	top, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	return top == "proc" || top == "sys" || top == "dev"
}

func core(found func(string, ...any)) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		found("a core of %d bytes, at most %d: %v", limit.Cur, limit.Max, err)
	}
}

// descriptors tells what was open before this program opened anything but what
// its own runtime needs.
func descriptors(found func(string, ...any)) {
	for _, d := range inherited {
		found("%s", d)
	}
}

var inherited = leftOpen()

func leftOpen() (left []string) {
	for fd := 3; fd < 64; fd++ {
		to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err == nil && !strings.HasPrefix(to, "anon_inode:[event") && !strings.HasPrefix(filepath.Base(to), "cpu.") { // Go's own
			left = append(left, fmt.Sprintf("descriptor %d is open: %s", fd, to))
		}
	}
	return left
}
