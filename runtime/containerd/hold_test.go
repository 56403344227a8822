package containerd

import (
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// A container that waits for its orders is told them over its own socket, and its
// end is known there before containerd tells it.
func TestContainerThatWaitsForOrders(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	d := p.open(t)
	door, err := entry.NewDoor(filepath.Join(t.TempDir(), "door"))
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	id, err := d.Create(t.Context(), runtime.Spec{
		Image: p.image, Entrypoint: entry.Command(entry.Options{API: true}), Mounts: door.Mounts(p.cfg.Program),
	})
	if err != nil {
		t.Fatal(err)
	}
	var engine, direct text
	if err := d.Start(t.Context(), id, runtime.Streams{Stdout: &engine}); err != nil {
		t.Fatal(err)
	}
	session, err := door.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if session.Listener(wire.NameAPI) == nil {
		t.Error("the container's loopback interface is down: nothing listens there")
	}
	if err := session.Start(wire.Orders{V: wire.Version, Argv: []string{"/box", "cat"}}, runtime.Streams{Stdin: []byte("warm\n"), Stdout: &direct}); err != nil {
		t.Fatal(err)
	}
	report, err := session.Wait(t.Context())
	if err != nil || report.Exit != 0 || direct.String() != "warm\n" {
		t.Errorf("%+v, %v, %q", report, err, direct.String())
	}
	if exit, err := d.Wait(t.Context(), id); err != nil || exit.Code != 0 || engine.String() != "warm\n" {
		t.Errorf("%+v, %v, containerd has %q", exit, err, engine.String())
	}
}
