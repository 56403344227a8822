package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	entryprog "github.com/spillway/spillway/runtime/entry"
)

// instance is a container that has been started and waits for a task.
type instance struct {
	n        *Node
	id       runtime.ID
	function functions.Name
	folder   folder             // what the container sees of this machine
	image    runtime.Image      // that it was made from
	session  *entryprog.Session // nil while it starts
	ready    time.Time
	early    bool // it was ready before its attempt came
}

// Done implements pool.Instance.
func (i *instance) Done() <-chan struct{} { return i.session.Done() }

// Close implements pool.Instance. Of a container that the engine does not remove
// the sweep takes care.
func (i *instance) Close() {
	if i.session != nil {
		if err := i.session.Close(); err != nil {
			i.n.cfg.Log.Warn("warm container not let go of", "container", i.id, "err", err)
		}
	}
	if i.id != "" {
		i.n.remove(context.Background(), i.id)
	}
	i.forget(false)
}

// forget gives up what the node knows of a container that is gone. reuse: the
// folder may serve another container of the function.
func (i *instance) forget(reuse bool) {
	i.n.mu.Lock()
	delete(i.n.warmed, i.id)
	i.n.mu.Unlock()
	if reuse && i.n.blanks.giveBack(i.function, i.folder) {
		return
	}
	if err := i.folder.removeAll(); err != nil {
		i.n.cfg.Log.Warn("folder of a warm container not removed", "container", i.id, "err", err)
	}
}

// startWarm starts a container for whatever task of a function comes next, up to
// where it waits for orders.
func (n *Node) startWarm(ctx context.Context, k warmKey) (_ *instance, err error) {
	fn, ok := n.warm.function(k)
	if !ok {
		return nil, functions.NotFound("no_function", "%s is not kept warm any more", k)
	}
	spec := fn.Spec.WithDefaults().On(functions.CPU)
	pulling, cancel := context.WithTimeoutCause(ctx, n.time.Pull, functions.ErrTimeout)
	defer cancel()
	if err := n.images.pull(pulling, spec.Image, nil); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, n.time.Launch, functions.ErrTimeout)
	defer cancel()
	name := strings.ToLower(rand.Text()[:12])
	i := &instance{n: n, function: k.function, folder: folder(filepath.Join(n.cfg.DataDir, "warm", name))}
	defer func() {
		if err != nil {
			i.Close()
		}
	}()
	if i.image, err = n.cfg.Driver.Image(limited, spec.Image); err != nil {
		return nil, err
	}
	if err := i.furnish(); err != nil {
		return nil, err
	}
	door, err := entryprog.NewDoor(i.folder.path("door"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, door.Close()) }()
	made := warmSpec(spec, k, n.cfg.ID, i.image, i.folder, containerUser(), name)
	made.Mounts = append(made.Mounts, door.Mounts(n.cfg.Entry)...)
	// To its end also when the pool stops meanwhile: an engine that is not waited
	// for makes the container all the same, and only it would know which.
	patient, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), n.time.Launch, functions.ErrTimeout)
	defer cancel()
	if i.id, err = n.cfg.Driver.Create(patient, made); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.warmed[i.id] = true
	n.mu.Unlock()
	if err := n.cfg.Driver.Start(limited, i.id, runtime.Streams{}); err != nil {
		return nil, err
	}
	if i.session, err = door.Accept(limited); err != nil {
		return nil, err
	}
	i.ready = n.cfg.Now()
	return i, nil
}

// furnish gives the container the folders that it sees, those for inputs among
// them.
func (i *instance) furnish() error {
	if err := os.MkdirAll(filepath.Dir(string(i.folder)), 0o700); err != nil {
		return fmt.Errorf("make a folder for warm containers: %w", err)
	}
	if i.n.blanks.take(i.function, i.folder) {
		// Of an earlier task nothing may be seen: this one's event comes later.
		return errors.Join(makeFolder(i.folder.in(), 0o755), os.Truncate(i.folder.event(), 0))
	}
	return errors.Join(i.folder.make(), i.folder.layOut(containerUser(), true))
}

// warmSpec is containerSpec as far as no task is needed for it. Everything that
// is a task's own comes with its orders.
func warmSpec(s functions.Spec, k warmKey, node functions.NodeID, image runtime.Image, f folder, user owner, name string) runtime.Spec {
	var o entryprog.Options
	if argv := image.Argv(s.Entrypoint, s.Command); len(argv) > 0 {
		o.Expect = argv[0]
	}
	c := containerOf(s, user)
	c.Name = "spillway-warm-" + name
	c.Entrypoint, c.Command = entryprog.Command(o), []string{} // not the image's
	c.Mounts = []runtime.Mount{
		{Source: f.work(), Target: taskDir},
		{Source: f.in(), Target: inputDir, ReadOnly: true},
		{Source: f.event(), Target: eventFile, ReadOnly: true},
		{Source: f.tmp(), Target: "/tmp"},
	}
	c.Labels = map[string]string{runtime.LabelNode: string(node), runtime.LabelWarm: k.String()}
	return c
}

// clearWarm removes the containers of an earlier agent that no attempt holds: warm
// ones, those that served, and canaries. It waits for an engine that is away.
func (n *Node) clearWarm(ctx context.Context) error {
	for {
		err := n.clearOnce(ctx)
		if err == nil {
			return nil
		}
		if !functions.Sleep(ctx, n.time.Probe/5) {
			return err
		}
	}
}

func (n *Node) clearOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	found, err := n.cfg.Driver.List(ctx, map[string]string{runtime.LabelNode: string(n.cfg.ID)})
	for _, c := range found {
		_, warm := c.Labels[runtime.LabelWarm]
		_, serves := c.Labels[runtime.LabelServe]
		_, canary := c.Labels[runtime.LabelCanary]
		if (warm || serves || canary) && !n.holds(c) {
			err = errors.Join(err, n.cfg.Driver.Remove(ctx, c.ID))
		}
	}
	return err
}
