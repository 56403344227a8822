package runtimetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/spillway/spillway/runtime"
)

const noiseMiB = 8

// noise is what the box writes for the verb of the same name.
func noise(mib, seed int) []byte {
	b := make([]byte, mib<<20)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func testNoise(t *testing.T, b *bench) {
	spec := b.spec("noise", fmt.Sprint(noiseMiB), "7")
	id, stdout, _ := b.start(t, spec, "")
	if exit := b.wait(t, id); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	if got, want := []byte(stdout.String()), noise(noiseMiB, 7); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, want %d; the first %d are the same", len(got), len(want), same(got, want))
	}
}

// same counts the bytes with which two texts begin alike.
func same(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func testLargeStdin(t *testing.T, b *bench) {
	stdin := noise(noiseMiB, 8)
	id, stdout, stderr := b.start(t, b.spec("digest"), string(stdin))
	if exit := b.wait(t, id); exit.Code != 0 {
		t.Errorf("exit %+v %q", exit, stderr.String())
	}
	if want := fmt.Sprintf("%d %x\n", len(stdin), sha256.Sum256(stdin)); stdout.String() != want {
		t.Errorf("the container read %q, want %q", stdout.String(), want)
	}
}

// testWriters holds that a writer that fails, or stands still for a while, costs
// the container nothing.
func testWriters(t *testing.T, b *bench) {
	id := b.create(t, b.spec("lines", "20000"))
	var stderr Pane
	if err := b.Driver.Start(within(t), id, runtime.Streams{Stdout: brokenWriter{}, Stderr: &stderr}); err != nil {
		t.Fatal(err)
	}
	if exit := b.wait(t, id); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	if n := strings.Count(stderr.String(), "\n"); n != 20_000 {
		t.Errorf("%d lines came on the other stream, want all", n)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// testSignals asks process 1, as a driver's Stop and an operator do.
func testSignals(t *testing.T, b *bench) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		exit, stdout, stderr := b.run(t, b.spec("relay", fmt.Sprint(int(s))))
		if want := fmt.Sprintf("received %v\n", s); exit.Code != 0 || stdout != want {
			t.Errorf("%v: %+v %q %q", s, exit, stdout, stderr)
		}
	}
}
