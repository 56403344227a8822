package runtimetest

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// noSuchImage is a name that no bench has, of a registry that is nowhere.
const noSuchImage = "127.0.0.1:1/spillway-no-such-image:none"

func testImage(t *testing.T, b *bench) {
	img, err := b.Driver.Image(within(t), b.Image)
	if err != nil {
		t.Fatalf("Image: %v", err)
	}
	if !named(img, b.Image) || img.ID == "" || img.Size <= 0 {
		t.Errorf("%+v, want a name, an ID and a size", img)
	}
	if !slices.Equal(img.Entrypoint, []string{"/box"}) || !slices.Equal(img.Command, []string{"echo", "hello"}) {
		t.Errorf("it runs %q %q", img.Entrypoint, img.Command)
	}
	if !slices.Contains(img.Env, "BOX=image") || (img.WorkDir != "" && img.WorkDir != "/") {
		t.Errorf("environment %q in %q", img.Env, img.WorkDir)
	}
	if exit, stdout, _ := b.run(t, b.spec()); exit.Code != 0 || stdout != "hello\n" {
		t.Errorf("what the image itself runs: %+v %q", exit, stdout)
	}
	if _, err := b.Driver.Image(within(t), noSuchImage); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Image of one that is not there: %v, want not found", err)
	}
	all, err := b.Driver.Images(within(t))
	if err != nil {
		t.Fatalf("Images: %v", err)
	}
	at := slices.IndexFunc(all, func(i runtime.Image) bool { return i.ID == img.ID })
	if at < 0 || !named(all[at], b.Image) {
		t.Errorf("Images has no %s: %+v", b.Image, all)
	}
}

// named says whether an image has a name, which a driver may write in full.
func named(img runtime.Image, name string) bool {
	return slices.ContainsFunc(img.Names, func(n string) bool { return n == name || strings.HasSuffix(n, "/"+name) })
}

func testImageInUse(t *testing.T, b *bench) {
	if err := b.Driver.RemoveImage(within(t), noSuchImage); err != nil {
		t.Errorf("RemoveImage of one that is not there: %v", err)
	}
	inUse := func(how string) {
		t.Helper()
		if err := b.Driver.RemoveImage(within(t), b.Image); !errors.Is(err, functions.ErrConflict) {
			t.Fatalf("RemoveImage while a container is %s: %v, want a conflict", how, err)
		}
		if _, err := b.Driver.Image(within(t), b.Image); err != nil {
			t.Fatalf("after that: %v", err)
		}
	}
	id := b.create(t, b.spec("trap", "0"))
	inUse("created")
	var stdout Pane
	if err := b.Driver.Start(within(t), id, runtime.Streams{Stdout: &stdout}); err != nil {
		t.Fatal(err)
	}
	Until(t, "the program is ready", func() bool { return stdout.String() == "ready\n" })
	inUse("up")
	b.stop(t, id)
	inUse("exited")
}

func testImageRemoved(t *testing.T, b *bench) {
	if b.Load == nil {
		t.Skip("the bench has no further image")
	}
	name := b.Load(t)
	spec := b.spec("echo", "a", "second", "one")
	spec.Image = name
	if _, stdout, _ := b.run(t, spec); stdout != "a second one\n" {
		t.Errorf("output %q", stdout)
	}
	b.sweep(t)
	// What is left of a removed container may be cleared away a little later.
	Until(t, "the image can be removed", func() bool {
		err := b.Driver.RemoveImage(within(t), name)
		if err != nil && !errors.Is(err, functions.ErrConflict) {
			t.Fatalf("RemoveImage: %v", err)
		}
		return err == nil
	})
	if err := b.Driver.RemoveImage(within(t), name); err != nil {
		t.Fatalf("RemoveImage again: %v", err)
	}
	if img, err := b.Driver.Image(within(t), name); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Image of a removed one: %+v, %v, want not found", img, err)
	}
	all, err := b.Driver.Images(within(t))
	if err != nil || slices.ContainsFunc(all, func(i runtime.Image) bool { return named(i, name) }) {
		t.Errorf("Images still has %s: %+v, %v", name, all, err)
	}
	if id, err := b.Driver.Create(within(t), spec); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Create from a removed one: %s, %v, want not found", id, err)
	}
	if _, stdout, _ := b.run(t, b.spec("echo", "still", "here")); stdout != "still here\n" {
		t.Errorf("the other image: %q", stdout)
	}
}

// testPulls asks many times at once for an image that is there, and for one that
// nobody has.
func testPulls(t *testing.T, b *bench) {
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			var progress func(runtime.PullProgress)
			if i%2 == 0 {
				progress = func(p runtime.PullProgress) {
					if p.Done > p.Total || p.Layers > p.Of {
						t.Errorf("progress %+v", p)
					}
				}
			}
			if err := b.Driver.Pull(within(t), b.Image, progress); err != nil {
				t.Errorf("Pull of what is present: %v", err)
			}
			err := b.Driver.Pull(within(t), noSuchImage, progress)
			if !errors.Is(err, functions.ErrNotFound) && !errors.Is(err, functions.ErrUnavailable) {
				t.Errorf("Pull of what nobody has: %v, want not found or unavailable", err)
			} else if !strings.Contains(err.Error(), noSuchImage) {
				t.Errorf("Pull: %v, want it to name the image", err)
			}
		})
	}
	all.Wait()
}
