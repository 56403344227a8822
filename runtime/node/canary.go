package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

const (
	// canaryImages is how many of the smallest images are looked at for one.
	canaryImages = 16
	// mostDoubt is the longest pause after canaries that have said nothing.
	mostDoubt = 5 * time.Minute
	// canaryMemory is enough for the entry program, and for what hooks run.
	canaryMemory = 128 * functions.MiB
)

// keepCanaries tries devices that are due for it with a container that does
// nothing, so that no task has to: all of the host when the agent has started, and
// each device whose quarantine is over.
func (n *Node) keepCanaries(ctx context.Context) {
	if n.cfg.GPUs == nil || n.cfg.Readings == nil || n.cfg.Entry == "" {
		return
	}
	ran, unfit, doubt := false, map[string]bool{}, n.time.Heartbeat
	for pause := n.time.Heartbeat / 4; functions.Sleep(ctx, pause); {
		pause = n.time.Heartbeat / 4
		if !n.engineUp() {
			continue
		}
		uuids, release, ok := n.cfg.GPUs.Trial()
		if !ok {
			continue
		}
		n.changed()
		image, err := n.canaryImage(ctx, unfit)
		switch {
		case err == nil:
			ran = true
			fail := n.tryGPUs(ctx, image, uuids)
			if tellsOfGPUs(fail) {
				unfit, doubt = map[string]bool{}, n.time.Heartbeat
				break
			}
			// The next one may tell more, in another image.
			unfit[image] = true
			pause, doubt = doubt, min(2*doubt, mostDoubt)
		case errors.Is(err, functions.ErrNotFound) && !ran:
			// A new node has no image yet. Its first task brings one, and must not wait
			// for it.
			n.cfg.Log.Info("GPUs not tried: there is no image to try them with")
			n.cfg.GPUs.Waive()
			ran, err = true, nil
		}
		release()
		n.look.leaseEnded(n.cfg.Now())
		if err != nil {
			n.cfg.Log.Info("GPUs not tried", "gpus", uuids, "err", err)
			unfit = map[string]bool{} // what was wrong with one may have passed
			pause, doubt = doubt, min(2*doubt, mostDoubt)
		}
		n.read(ctx, 0)
		n.changed()
	}
}

// tellsOfGPUs reports whether the end of a canary says anything of the devices or
// of the host: what is wrong with the engine or with the image does not.
func tellsOfGPUs(f *functions.Failure) bool {
	if f == nil {
		return true
	}
	r := functions.React(f.Class)
	return r.Host != functions.BlameNothing || r.Device != functions.BlameNothing
}

func (n *Node) engineUp() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.engine.reason == ""
}

// canaryImage is one that an attempt has run in here, or else the smallest that
// suits the driver: of an image only its presence counts. Those in unfit are passed
// over. ErrNotFound means that there is none.
func (n *Node) canaryImage(ctx context.Context, unfit map[string]bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, n.time.Probe)
	defer cancel()
	n.mu.Lock()
	last := n.ranIn
	n.mu.Unlock()
	host := functions.GPUHostInfo{}
	if h := n.cfg.GPUs.Host(); h != nil {
		host = *h
	}
	suits := func(name string) bool {
		if unfit[name] {
			return false
		}
		img, err := n.cfg.Driver.Image(ctx, name)
		if err != nil {
			return false
		}
		reason, _ := runtime.Unsuited(img, nil, host)
		return reason == ""
	}
	if last != "" && suits(last) {
		return last, nil
	}
	all, err := n.cfg.Driver.Images(ctx)
	if err != nil {
		return "", fmt.Errorf("list images: %w", err)
	}
	all = slices.DeleteFunc(all, func(i runtime.Image) bool { return len(i.Names) == 0 })
	slices.SortFunc(all, func(a, b runtime.Image) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Names[0], b.Names[0]))
	})
	for _, img := range all[:min(len(all), canaryImages)] {
		if suits(img.Names[0]) {
			return img.Names[0], nil
		}
	}
	return "", functions.NotFound("no_image", "no image is on the node that a container could be made of")
}

// tryGPUs runs a canary on devices, tells the pool what came of it, and returns
// when the container is gone.
func (n *Node) tryGPUs(ctx context.Context, image string, uuids []string) *functions.Failure {
	name := "spillway-canary-" + strings.ToLower(rand.Text()[:12])
	n.setCanary(name)
	defer n.setCanary("")
	began := n.cfg.Now()
	var id runtime.ID
	fail := n.canary(ctx, n.canarySpec(name, image, uuids), &id)
	if ctx.Err() == nil { // else the agent stops, and that was all
		n.cfg.GPUs.Report(fail, uuids)
		n.changed()
		if fail != nil {
			n.cfg.Log.Warn("canary failed", "gpus", uuids, "image", image, "class", fail.Class, "why", fail.Message, "hint", runtime.Hint(fail.Class, fail.Message))
		} else {
			n.cfg.Log.Info("GPUs tried: they work", "gpus", uuids, "image", image, "took", n.cfg.Now().Sub(began))
		}
	}
	n.removeCanary(ctx, id, name)
	return fail
}

// canarySpec is a container of any image that runs the entry program alone.
func (n *Node) canarySpec(name, image string, uuids []string) runtime.Spec {
	var devices []functions.GPUInfo
	for _, g := range n.cfg.GPUs.Snapshot() {
		if slices.Contains(uuids, g.UUID) {
			devices = append(devices, g)
		}
	}
	return runtime.Spec{
		Name: name, Image: image, User: containerUser().String(),
		Entrypoint: []string{wire.Program, wire.RoleFacts}, Command: []string{}, // not the image's
		Mounts: []runtime.Mount{{Source: n.cfg.Entry, Target: wire.Program, ReadOnly: true}},
		Memory: canaryMemory, GPUs: engineIDs(devices), KnownGPUs: knownGPUs(n.look.reading(), devices),
		Labels: map[string]string{runtime.LabelNode: string(n.cfg.ID), runtime.LabelCanary: strings.Join(uuids, ",")},
	}
}

// canary launches the container, waits for its end and says what failed. id is
// set as soon as there is a container.
func (n *Node) canary(ctx context.Context, spec runtime.Spec, id *runtime.ID) *functions.Failure {
	limited, cancel := context.WithTimeoutCause(ctx, n.time.Launch, functions.ErrTimeout)
	defer cancel()
	var stderr bytes.Buffer
	made, err := n.cfg.Driver.Create(limited, spec)
	if *id = made; err == nil {
		err = n.cfg.Driver.Start(limited, made, runtime.Streams{Stderr: &stderr})
	}
	if err != nil {
		return n.refused(err, true)
	}
	exit, err := n.cfg.Driver.Wait(limited, made)
	if err != nil && errors.Is(context.Cause(limited), functions.ErrTimeout) {
		return &functions.Failure{Class: functions.GPUHung, Message: fmt.Sprintf("a container with a GPU did not end within %s", n.time.Launch)}
	}
	if err != nil {
		return &functions.Failure{Class: functions.Infra, Message: "wait for the container: " + err.Error()}
	}
	class := runtime.ClassifyRun(exit, true, stderr.String(), false)
	if class == "" {
		return nil
	}
	if !class.GPUFault() { // not even the entry program runs in this image
		class = functions.Infra
	}
	return &functions.Failure{Class: class, ExitCode: exit.Code, Message: fmt.Sprintf("ended with code %d: %s", exit.Code, clip(stderr.String(), 300))}
}

// removeCanary waits until the container is gone, however long its engine hangs:
// its devices are held until then. Only an agent that stops leaves it to the next.
func (n *Node) removeCanary(ctx context.Context, id runtime.ID, name string) {
	if id != "" {
		n.remove(ctx, id)
		return
	}
	// The engine may have made it and not have said so.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	found, err := n.cfg.Driver.List(bounded, map[string]string{runtime.LabelNode: string(n.cfg.ID)})
	for _, c := range found {
		if c.Name == name {
			err = errors.Join(err, n.cfg.Driver.Remove(bounded, c.ID))
		}
	}
	if err != nil {
		n.cfg.Log.Warn("canary container not removed", "container", name, "err", err)
	}
}

func (n *Node) setCanary(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.canaryName = name
}
