// Package probetest gives tests a machine with NVIDIA GPUs where there are none:
// the program gpuprobe, and a driver's library for it to load, whose GPUs stand in
// a file and change while it reads them.
package probetest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	// requireVariable makes a lack of a C compiler a failure.
	requireVariable = "SPILLWAY_REQUIRE_GCC"
	// stateVariable tells the library where its GPUs stand.
	stateVariable = "SPILLWAY_FAKE_NVML"
	library       = "libnvidia-ml.so.1"
)

//go:embed driver/nvml.c
var code string

// Driver is an installed driver. Its methods may not be called at the same time.
type Driver struct {
	Dir string // holds the library

	t     testing.TB
	state State
}

// Install makes a driver that works, with some GPUs. Where there is no gcc the
// test is skipped, or fails when SPILLWAY_REQUIRE_GCC is set.
func Install(t testing.TB, gpus ...GPU) *Driver {
	t.Helper()
	d := &Driver{Dir: t.TempDir(), t: t, state: State{Driver: "580.65.06", CUDA: 13000, GPUs: gpus}}
	d.write()
	d.Lack()
	return d
}

// Env is what a program's environment needs to load the driver.
func (d *Driver) Env() []string {
	path := d.Dir
	if more := os.Getenv("LD_LIBRARY_PATH"); more != "" {
		path += string(os.PathListSeparator) + more
	}
	return []string{"LD_LIBRARY_PATH=" + path, stateVariable + "=" + d.statePath()}
}

// Set changes the driver's state; programs see it in their next call.
func (d *Driver) Set(change func(*State)) {
	d.t.Helper()
	change(&d.state)
	d.write()
}

// Xid has a GPU report an error to the programs that listen now.
func (d *Driver) Xid(gpu int, xid uint64) {
	d.t.Helper()
	d.state.event++
	d.state.last = fmt.Sprintf("%d %d 8 %d %d", d.state.event, gpu, xid, uint32(noInstance))
	d.write()
}

// Lack gives the programs that start from now on a library without these
// functions, as an older driver's: names such as nvmlDeviceGetMemoryInfo_v2. None
// gives back the whole one.
func (d *Driver) Lack(symbols ...string) {
	d.t.Helper()
	binary, err := build(d.t, symbols)
	if err != nil {
		d.t.Fatalf("build %s: %v", library, err)
	}
	d.replace(filepath.Join(d.Dir, library), binary)
}

// Uninstall takes the library away from the programs that start from now on.
func (d *Driver) Uninstall() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.Dir, library)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *Driver) statePath() string { return filepath.Join(d.Dir, "state") }

func (d *Driver) write() {
	d.t.Helper()
	d.replace(d.statePath(), []byte(d.state.text()))
}

// replace writes a file at once: a program that has the old one open keeps it.
func (d *Driver) replace(path string, content []byte) {
	d.t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		d.t.Fatal(err)
	}
}

var built struct {
	sync.Mutex
	libraries map[string][]byte // by what they lack
}

// build compiles the library, once in a process for each set of lacking symbols.
func build(t testing.TB, lacking []string) ([]byte, error) {
	t.Helper()
	needGCC(t)
	built.Lock()
	defer built.Unlock()
	key := strings.Join(lacking, " ")
	if b := built.libraries[key]; b != nil {
		return b, nil
	}
	dir, err := os.MkdirTemp("", "spillway-nvml-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	hidden := ""
	if len(lacking) > 0 {
		hidden = "local: " + strings.Join(lacking, "; ") + "; "
	}
	script, out := filepath.Join(dir, "symbols"), filepath.Join(dir, library)
	if err := os.WriteFile(script, []byte("{ global: nvml*; "+hidden+"};\n"), 0o600); err != nil {
		return nil, err
	}
	gcc := exec.Command("gcc", "-O1", "-shared", "-fPIC", "-fvisibility=hidden",
		"-Wl,--version-script="+script, "-o", out, "-x", "c", "-")
	gcc.Stdin = strings.NewReader(code)
	if text, err := gcc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	if built.libraries == nil {
		built.libraries = map[string][]byte{}
	}
	built.libraries[key] = b
	return b, nil
}
