package runtimetest

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// Subject is a driver under test.
type Subject struct {
	Driver runtime.Driver
	Image  string // present, and made by BoxImage or running Box
	// Simulated means that no kernel stands behind the driver: what only a
	// kernel can enforce is not tested.
	Simulated bool
	// Own are the paths in a container where the driver itself mounts what its
	// containers need, beside the program that goes first in them.
	Own []string
	// Parallel is how many launches are under way at once in the test of many;
	// 0 = 30.
	Parallel int
	// Reopen makes a driver as an agent does that is started, again and again on
	// the same state: it knows the containers of the one that it made before. One
	// that is an io.Closer is closed by the test before the next is made, and
	// closing it twice must do no harm. It has Image, and need not know Driver's
	// containers. nil = containers end with their driver.
	Reopen func(t *testing.T) runtime.Driver
	// Load makes a further image of BoxImage's kind present and returns its
	// name; the test removes it. nil = images cannot be removed.
	Load func(t *testing.T) string
	GPU  *GPUSubject // nil = none
}

// sentence is one of the contract's, and what finds out whether it holds.
type sentence struct {
	says   string
	test   func(*testing.T, *bench)
	kernel bool // only a kernel can see to it
}

var sentences = []sentence{
	{"an exit is a result, not an error", testExit, false},
	{"output is complete when Wait returns", testOutput, false},
	{"output is passed on as it is, whatever its bytes", testNoise, false},
	{"a writer that fails costs the container nothing", testWriters, false},
	{"stdin reaches its end", testStdin, false},
	{"stdin may be large", testLargeStdin, false},
	{"attach replays from the beginning and follows", testAttach, false},
	{"the context bounds the request, never the container", testContext, false},
	{"a cancelled start leaves nothing behind", testCancelledStart, false},
	{"stop asks, then kills after grace", testStop, false},
	{"stopping and removing what is gone succeeds", testGone, false},
	{"removing leaves no trace, however far the container came", testRemove, false},
	{"list shows stopped ones and labels come back", testList, false},
	{"a name that exists already is a conflict", testConflict, false},
	{"a missing image is not found, and named", testMissingImage, false},
	{"an image that is present is described", testImage, false},
	{"an image that a container uses stays", testImageInUse, false},
	{"a removed image is gone", testImageRemoved, false},
	{"pulls of one image at the same time all have it", testPulls, false},
	{"an entrypoint that is not there is the user's fault", testBadEntry, false},
	{"a signal is 128 and its number", testSignal, false},
	{"waiting for what never started is a conflict", testNeverStarted, false},
	{"the spec's environment wins over the image's", testEnv, false},
	{"mounts are read-only or writable as asked", testMounts, false},
	{"the memory limit kills, and is told apart", testMemory, false},
	{"usage tells what a container takes", testUsage, false},
	{"many launches at once keep every exit code apart and leave nothing", testMany, false},
	{"what runs is taken up by the next agent", testAdoptRunning, false},
	{"what ended while nobody was there is not lost", testAdoptEnded, false},
	{"what ends after the next agent came is told to it", testAdoptLater, false},
	{"signals reach the program", testSignals, true},
	{"the process has no rights, no network and no writable root", testHardened, true},
	{"isolation is never weaker than Docker's default", testIsolation, true},
	{"namespaces, host name and environment are not the host's", testApart, true},
	{"a program that makes its caller root does not", testRaise, true},
	{"what was asked for is mounted, and nothing else", testAsked, true},
	{"the number of processes is limited", testPids, true},
	{"the size of a file is limited", testFileSize, true},
	{"a tmpfs has the size that was asked", testTmpfs, true},
	{"a CPU container sees no GPU, whatever its image asks", testNoGPU, true},
}

// TestDriver holds a driver to the contract of package runtime. The subtests are
// the contract's sentences. open is called once.
func TestDriver(t *testing.T, open func(t *testing.T) Subject) {
	conform(t, open(t), append(slices.Clone(sentences), gpuSentences...))
}

func conform(t *testing.T, s Subject, all []sentence) {
	for _, c := range all {
		t.Run(c.says, func(t *testing.T) {
			if c.kernel && s.Simulated {
				t.Skip("only a kernel can enforce this")
			}
			b := &bench{Subject: s, label: strings.ToLower(rand.Text())}
			t.Cleanup(func() { b.sweep(t) })
			c.test(t, b)
		})
	}
}

// bench is what one subtest works with; its label is on all its containers.
type bench struct {
	Subject
	label string
}

// within bounds one subtest; a driver that blocks fails it instead of hanging it.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Patience)
	t.Cleanup(cancel)
	return ctx
}

func (b *bench) spec(args ...string) runtime.Spec {
	return runtime.Spec{
		Image: b.Image, Command: args, Memory: 64 * functions.MiB, Pids: 64,
		Labels: map[string]string{"spillway.test": b.label, runtime.LabelTask: "t-1"},
	}
}

func (b *bench) create(t *testing.T, spec runtime.Spec) runtime.ID {
	t.Helper()
	id, err := b.Driver.Create(within(t), spec)
	if err != nil {
		t.Fatalf("Create(%v): %v", spec.Command, err)
	}
	return id
}

// start runs a container that was just made and returns where its output goes.
func (b *bench) start(t *testing.T, spec runtime.Spec, stdin string) (runtime.ID, *Pane, *Pane) {
	t.Helper()
	id := b.create(t, spec)
	var stdout, stderr Pane
	if err := b.Driver.Start(within(t), id, runtime.Streams{Stdin: []byte(stdin), Stdout: &stdout, Stderr: &stderr}); err != nil {
		t.Fatalf("Start(%v): %v", spec.Command, err)
	}
	return id, &stdout, &stderr
}

func (b *bench) wait(t *testing.T, id runtime.ID) runtime.Exit {
	t.Helper()
	exit, err := b.Driver.Wait(within(t), id)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return exit
}

// run takes a container from its beginning to its end.
func (b *bench) run(t *testing.T, spec runtime.Spec) (exit runtime.Exit, stdout, stderr string) {
	t.Helper()
	id, out, errs := b.start(t, spec, "")
	exit = b.wait(t, id)
	return exit, out.String(), errs.String()
}

func (b *bench) list(t *testing.T) []runtime.Info {
	t.Helper()
	infos, err := b.Driver.List(within(t), map[string]string{"spillway.test": b.label})
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return infos
}

func (b *bench) stop(t *testing.T, id runtime.ID) {
	t.Helper()
	if err := b.Driver.Stop(within(t), id, 20*time.Second); err != nil {
		t.Fatalf("Stop: %v", err)
	}
}

func (b *bench) remove(t *testing.T, id runtime.ID) {
	t.Helper()
	if err := b.Driver.Remove(within(t), id); err != nil {
		t.Fatalf("Remove: %v", err)
	}
}

// sweep removes what a subtest left, which is no failure: a subtest may end early.
func (b *bench) sweep(t *testing.T) {
	for _, c := range b.list(t) {
		b.remove(t, c.ID)
	}
	if left := b.list(t); len(left) > 0 {
		t.Errorf("still there after Remove: %v", left)
	}
}
