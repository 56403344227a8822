package containerd

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// gate is a source that waits before it gives.
type gate struct {
	from  archives
	open  chan struct{}
	asked atomic.Int32
}

func (g *gate) Archive(ctx context.Context, image string, progress func(runtime.PullProgress)) (io.ReadCloser, error) {
	g.asked.Add(1)
	progress(runtime.PullProgress{Total: 2}) // whoever joins hears it
	select {
	case <-g.open:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	progress(runtime.PullProgress{Done: 1, Total: 2})
	return g.from.Archive(ctx, image, progress)
}

func TestImages(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	_, archive := runtimetest.BoxImage(t)
	const other = "registry.example/team/other:1" // what the archive does not call it
	source := &gate{from: archives{p.image: p.cfg.Source.(archives)[p.image], other: archive}, open: make(chan struct{})}
	p.cfg.Source = source
	d, err := New(p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := t.Context()
	if _, err := d.Image(ctx, p.image); !errors.Is(err, functions.ErrNotFound) {
		t.Fatalf("Image before it is there: %v, want not found", err)
	}

	// Three who want one image share one pull, and one who gives up ends it for nobody else.
	impatient, cancel := context.WithCancel(ctx)
	gaveUp := make(chan error, 1)
	var joined, heard atomic.Int32
	count := func(now runtime.PullProgress) {
		if now.Done == 0 {
			joined.Add(1)
		} else {
			heard.Add(1)
		}
	}
	go func() { gaveUp <- d.Pull(impatient, p.image, count) }()
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if err := d.Pull(ctx, p.image, count); err != nil {
				t.Errorf("Pull: %v", err)
			}
		})
	}
	runtimetest.Until(t, "all have joined the pull", func() bool { return joined.Load() == 3 })
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("Pull on a context that ends: %v, want it to say so", err)
	}
	close(source.open)
	all.Wait()
	if source.asked.Load() != 1 || heard.Load() != 2 {
		t.Errorf("the source was asked %d times and %d heard of it, want 1 and 2", source.asked.Load(), heard.Load())
	}
	if err := d.Pull(ctx, other, nil); err != nil {
		t.Fatalf("Pull under a name that the archive does not have: %v", err)
	}
	if err := d.Pull(ctx, "nobody/has:this", nil); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Pull of what no source has: %v, want not found", err)
	}
	if err := d.Pull(ctx, "Not A Name", nil); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("Pull of a name that is none: %v, want invalid", err)
	}

	img, err := d.Image(ctx, p.image)
	if err != nil || !slices.Equal(img.Entrypoint, []string{"/box"}) || !slices.Contains(img.Env, "BOX=image") || img.Size < functions.MiB || !slices.Contains(img.Names, p.image) {
		t.Errorf("Image: %+v, %v", img, err)
	}
	images, err := d.Images(ctx)
	if err != nil || !slices.ContainsFunc(images, func(i runtime.Image) bool { return i.ID == img.ID && slices.Contains(i.Names, p.image) }) {
		t.Errorf("Images: %+v, %v, want %s among them", images, err, img.ID)
	}
	if exit, out := run(t, d, runtime.Spec{Image: other, Command: []string{"echo", "under another name"}}); exit.Code != 0 || out != "under another name\n" {
		t.Errorf("%+v %q", exit, out)
	}

	id, err := d.Create(ctx, runtime.Spec{Image: p.image})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveImage(ctx, p.image); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("RemoveImage of one in use: %v, want a conflict", err)
	}
	if err := d.Remove(ctx, id); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.RemoveImage(ctx, p.image); err != nil {
			t.Errorf("RemoveImage: %v", err)
		}
	}
	if _, err := d.Image(ctx, p.image); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Image after its removal: %v, want not found", err)
	}
}

func TestPullIsCalledOffWithTheLast(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	source := &gate{from: p.cfg.Source.(archives), open: make(chan struct{})}
	p.cfg.Source = source
	d, err := New(p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Pull(ctx, p.image, nil) }()
	runtimetest.Until(t, "the pull has begun", func() bool { return source.asked.Load() == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Pull: %v, want it to say that its context has ended", err)
	}
	close(source.open)
	if err := d.Pull(t.Context(), p.image, nil); err != nil {
		t.Errorf("Pull once more: %v", err)
	}
	if n := source.asked.Load(); n != 2 {
		t.Errorf("the source was asked %d times, want 2", n)
	}
}
