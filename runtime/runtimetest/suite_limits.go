package runtimetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

func testMissingImage(t *testing.T, b *bench) {
	const image = "spillway-no-such-image:none"
	spec := b.spec("exit", "0")
	spec.Image = image
	_, err := b.Driver.Create(within(t), spec)
	var launch *runtime.LaunchError
	if !errors.Is(err, functions.ErrNotFound) || !errors.As(err, &launch) || !strings.Contains(launch.Message, image) {
		t.Fatalf("Create: %v, want not found, naming %s", err, image)
	}
	if class := runtime.ClassifyLaunch(launch.Message, launch.Hung, true); class != functions.ImageMissing {
		t.Errorf("class %s, want %s", class, functions.ImageMissing)
	}
	if err := b.Driver.Pull(within(t), b.Image, nil); err != nil {
		t.Errorf("Pull of what is present: %v", err)
	}
}

func testBadEntry(t *testing.T, b *bench) {
	spec := b.spec()
	spec.Entrypoint = []string{"/no/such/program"}
	id := b.create(t, spec)
	var class functions.Class
	err := b.Driver.Start(within(t), id, runtime.Streams{})
	if launch := (*runtime.LaunchError)(nil); errors.As(err, &launch) {
		class = runtime.ClassifyLaunch(launch.Message, launch.Hung, false)
	} else if err != nil {
		t.Fatalf("Start: %v, want a LaunchError or an exit", err)
	} else { // an init process was there to be started
		class = runtime.ClassifyRun(b.wait(t, id), false, "", false)
	}
	if class != functions.BadEntry {
		t.Errorf("class %s, want %s", class, functions.BadEntry)
	}
}

func testSignal(t *testing.T, b *bench) {
	if exit, _, _ := b.run(t, b.spec("signal", "9")); exit.Code != 137 || exit.OOMKilled {
		t.Errorf("killed by 9: %+v", exit)
	}
}

func testEnv(t *testing.T, b *bench) {
	spec := b.spec("env", "BOX")
	if _, stdout, _ := b.run(t, spec); stdout != "image\n" {
		t.Errorf("BOX=%q, want the image's", stdout)
	}
	spec.Env = []string{"BOX=spec=1"}
	if _, stdout, _ := b.run(t, spec); stdout != "spec=1\n" {
		t.Errorf("BOX=%q, want the spec's", stdout)
	}
}

func testMounts(t *testing.T, b *bench) {
	in, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "a.txt"), []byte("from outside\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{in, out} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	with := func(args ...string) runtime.Spec {
		s := b.spec(args...)
		s.Mounts = []runtime.Mount{{Source: in, Target: "/task/in", ReadOnly: true}, {Source: out, Target: "/task/out"}}
		return s
	}
	if exit, stdout, stderr := b.run(t, with("cat", "/task/in/a.txt")); exit.Code != 0 || stdout != "from outside\n" {
		t.Errorf("read: %+v %q %q", exit, stdout, stderr)
	}
	if exit, _, stderr := b.run(t, with("write", "/task/out/b", "1")); exit.Code != 0 {
		t.Errorf("write to the writable one: %+v %q", exit, stderr)
	}
	if info, err := os.Stat(filepath.Join(out, "b")); err != nil || info.Size() != 1<<20 {
		t.Errorf("the file outside: %v, %v", info, err)
	}
	if exit, _, stderr := b.run(t, with("write", "/task/in/b", "1")); exit.Code != 1 || !strings.Contains(stderr, "read-only") {
		t.Errorf("write to the read-only one: %+v %q", exit, stderr)
	}
	if entries, err := os.ReadDir(in); err != nil || len(entries) != 1 {
		t.Errorf("the read-only one holds %v, %v", entries, err)
	}
}

func testMemory(t *testing.T, b *bench) {
	spec := b.spec("alloc", "200")
	spec.Memory = 32 * functions.MiB
	exit, stdout, _ := b.run(t, spec)
	if !exit.OOMKilled || exit.Code != 137 || stdout != "" {
		t.Errorf("200 MiB of 32: %+v %q", exit, stdout)
	}
	if class := runtime.ClassifyRun(exit, true, "CUDA out of memory", false); class != functions.OutOfMemory {
		t.Errorf("class %s, want %s", class, functions.OutOfMemory)
	}
	if exit, _, stderr := b.run(t, b.spec("alloc", "16")); exit.Code != 0 || exit.OOMKilled {
		t.Errorf("16 MiB of 64: %+v %q", exit, stderr)
	}
}

func testUsage(t *testing.T, b *bench) {
	id, stdout, _ := b.start(t, b.spec("wait"), "")
	Until(t, "the program is ready", func() bool { return stdout.String() == "ready\n" })
	usage, err := b.Driver.Usage(within(t), id)
	if err != nil || usage.Memory < 0 || usage.Memory > 64*functions.MiB {
		t.Errorf("Usage: %+v, %v", usage, err)
	}
	if !b.Simulated && usage.Memory == 0 {
		t.Error("a running process uses no memory")
	}
	b.remove(t, id)
	if _, err := b.Driver.Usage(within(t), id); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Usage of a removed one: %v, want not found", err)
	}
}

func testHardened(t *testing.T, b *bench) {
	spec := b.spec("facts")
	spec.User = "1234:4321"
	exit, stdout, stderr := b.run(t, spec)
	if exit.Code != 0 {
		t.Fatalf("%+v %q", exit, stderr)
	}
	for _, want := range []string{
		"uid 1234 gid 4321\n",
		"CapEff: 0000000000000000\n",
		"CapBnd: 0000000000000000\n",
		"NoNewPrivs: 1\n",
		"interfaces lo\n",
		"root open /root-file: ",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "pid 1 ") {
		t.Errorf("the program is its own init:\n%s", stdout)
	}
	spec.User = ""
	if _, stdout, _ := b.run(t, spec); strings.Contains(stdout, "uid 0") {
		t.Errorf("a spec without a user runs as root:\n%s", stdout)
	}
}

func testPids(t *testing.T, b *bench) {
	spec := b.spec("fork", "60")
	spec.Pids = 24
	exit, stdout, stderr := b.run(t, spec)
	if strings.Contains(stdout, "children 60") {
		t.Errorf("60 children of 24: %+v %q %q", exit, stdout, stderr)
	}
}

func testFileSize(t *testing.T, b *bench) {
	out := t.TempDir()
	if err := os.Chmod(out, 0o777); err != nil {
		t.Fatal(err)
	}
	spec := b.spec("write", "/task/out/big", "8")
	spec.Mounts = []runtime.Mount{{Source: out, Target: "/task/out"}}
	spec.FileSize = 4 * functions.MiB
	exit, _, stderr := b.run(t, spec)
	if exit.Code != 1 || !strings.Contains(stderr, "file too large") {
		t.Errorf("8 MiB of 4: %+v %q", exit, stderr)
	}
	if info, err := os.Stat(filepath.Join(out, "big")); err != nil || info.Size() > 4<<20 {
		t.Errorf("the file: %v, %v", info, err)
	}
}

func testTmpfs(t *testing.T, b *bench) {
	spec := b.spec("write", "/tmp/a", "4")
	spec.Tmpfs = []runtime.Tmpfs{{Target: "/tmp", Size: 8 * functions.MiB}}
	if exit, _, stderr := b.run(t, spec); exit.Code != 0 {
		t.Errorf("4 MiB of 8: %+v %q", exit, stderr)
	}
	spec.Command = []string{"write", "/tmp/a", "16"}
	if exit, _, stderr := b.run(t, spec); exit.Code != 1 || !strings.Contains(stderr, "no space left") {
		t.Errorf("16 MiB of 8: %+v %q", exit, stderr)
	}
}

func testNoGPU(t *testing.T, b *bench) {
	spec := b.spec("env", "NVIDIA_VISIBLE_DEVICES")
	spec.Env = []string{"NVIDIA_VISIBLE_DEVICES=all"}
	if _, stdout, _ := b.run(t, spec); stdout != "void\n" {
		t.Errorf("NVIDIA_VISIBLE_DEVICES=%q, want void", stdout)
	}
}
