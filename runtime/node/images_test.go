package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/registrytest"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestSurplus(t *testing.T) {
	now := time.Unix(1e9, 0)
	sum := func(all []ownImage) (total functions.Bytes) {
		ids := map[string]bool{}
		for _, img := range all {
			if !ids[img.ID] {
				ids[img.ID], total = true, total+img.size
			}
		}
		return total
	}
	rapid.Check(t, func(t *rapid.T) {
		var all []ownImage
		for i := range rapid.IntRange(0, 8).Draw(t, "names") {
			id := rapid.IntRange(0, 5).Draw(t, "id")
			all = append(all, ownImage{
				name: fmt.Sprint(i), size: functions.Bytes(10 * (id + 1)), busy: rapid.IntRange(0, 3).Draw(t, "busy") == 0,
				imageUse: imageUse{ID: fmt.Sprint(id), Used: now.Add(-time.Duration(rapid.IntRange(0, 240).Draw(t, "minutes ago")) * time.Minute)},
			})
		}
		budget := functions.Bytes(rapid.IntRange(0, 200).Draw(t, "budget"))
		remove := surplus(all, budget, now)

		gone := func(img ownImage) bool { return slices.Contains(remove, img) }
		fixed := func(img ownImage) bool { return img.busy || now.Sub(img.Used) < rested }
		stay := slices.DeleteFunc(slices.Clone(all), gone)
		for _, img := range remove {
			if fixed(img) {
				t.Fatalf("%+v goes", img)
			}
			for _, other := range stay {
				if !fixed(other) && other.Used.Before(img.Used) {
					t.Fatalf("%+v goes before %+v", img, other)
				}
			}
		}
		if sum(stay) > budget && slices.ContainsFunc(stay, func(img ownImage) bool { return !fixed(img) }) {
			t.Fatalf("%+v stay, and take more than %d", stay, budget)
		}
		if n := len(remove); n > 0 {
			fewer := slices.DeleteFunc(slices.Clone(all), func(img ownImage) bool { return slices.Contains(remove[:n-1], img) })
			if sum(fewer) <= budget {
				t.Fatalf("%+v goes without need", remove[n-1])
			}
		}
	})
}

// withRegistry is a fake engine that pulls what it lacks from a registry that has
// everything.
type withRegistry struct {
	*runtimetest.Fake
	mu    sync.Mutex // guards pulls
	pulls map[string]int
}

func (d *withRegistry) Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	err := d.Fake.Pull(ctx, image, nil)
	if !errors.Is(err, functions.ErrNotFound) {
		return err
	}
	d.mu.Lock()
	d.pulls[image]++
	d.mu.Unlock()
	for i := range 10 { // two seconds
		progress(runtime.PullProgress{Done: functions.Bytes(i) * functions.MiB, Total: 10 * functions.MiB, Layers: i / 5, Of: 2})
		time.Sleep(200 * time.Millisecond)
	}
	d.Add(image, runtimetest.Box)
	return nil
}

func (d *withRegistry) has(image string) bool {
	_, err := d.Image(context.Background(), image)
	return err == nil
}

func TestImagesAreKeptWithinTheirBudget(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		d := &withRegistry{Fake: w.fake, pulls: map[string]int{}}
		d.Add("foreign", runtimetest.Box)
		cfg := w.config()
		cfg.Driver, cfg.ImageBudget = d, 2*functions.MiB // an image is 1 MiB
		a := w.agent(cfg)
		order := func(image string, args ...string) functions.Assignment {
			as := w.order(a, args...)
			as.Function.Image = image
			return as
		}
		run := func(image string) {
			t.Helper()
			wantClass(t, w.do(a, order(image, "echo", "hi")), "", "")
		}
		run("foreign")
		busy := order("busy", "sleep", "4h")
		busy.Function.Timeout = functions.Duration(8 * time.Hour)
		a.admit(busy)
		w.until("the busy one runs", func() bool { return d.has("busy") })
		run("old")
		time.Sleep(10 * time.Minute)
		run("young")
		run("foreign")
		time.Sleep(40 * time.Minute)
		for _, image := range []string{"busy", "old", "young", "foreign"} {
			if !d.has(image) {
				t.Errorf("%s went within an hour of its use", image)
			}
		}
		a.quit() // the next agent remembers
		a = w.agent(cfg)
		w.until("the oldest one is gone", func() bool { return !d.has("old") })
		time.Sleep(2 * time.Hour)
		if !d.has("busy") || !d.has("young") || !d.has("foreign") {
			t.Errorf("busy %v, young %v, foreign %v: more than the oldest one went", d.has("busy"), d.has("young"), d.has("foreign"))
		}
		run("old")
		if d.pulls["old"] != 2 || d.pulls["foreign"] != 0 {
			t.Errorf("pulls: %v", d.pulls)
		}
		w.until("now another one is the oldest", func() bool { return !d.has("young") })
		if !d.has("busy") || !d.has("foreign") || !d.has("old") {
			t.Errorf("busy %v, foreign %v, old %v", d.has("busy"), d.has("foreign"), d.has("old"))
		}
		// What somebody else has put in its place is not the node's any more.
		a.images.mu.Lock()
		a.images.images["old"] = imageUse{ID: "fake:young", Used: time.Now().Add(-3 * time.Hour)}
		a.images.budget = 1
		a.images.mu.Unlock()
		d.Add("young", runtimetest.Box)
		time.Sleep(time.Hour)
		if !d.has("old") {
			t.Error("an image went that somebody else had brought under the same name")
		}
	})
}

func TestAPullIsToldToThoseWhoWait(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Driver = &withRegistry{Fake: w.fake, pulls: map[string]int{}}
		a := w.agent(cfg)
		as := w.order(a, "echo", "hi")
		as.Function.Image = "reg.test/echo:1"
		wantClass(t, w.do(a, as), "", "")
		w.log.mu.Lock()
		defer w.log.mu.Unlock()
		var last time.Time
		var told []string
		for _, p := range w.log.progress {
			if p.Phase != functions.PhasePull || p.Message == "" { // the phase itself is told as well
				continue
			}
			if p.Task != as.Task.ID || p.Attempt != 1 || p.At.Sub(last) < 500*time.Millisecond {
				t.Errorf("progress %+v comes %s after the one before", p, p.At.Sub(last))
			}
			last = p.At
			told = append(told, p.Message)
		}
		if len(told) < 3 || len(told) > 5 || told[0] != "pulling reg.test/echo:1: 0B of 10MiB, 0 of 2 layers" {
			t.Errorf("told %q", told)
		}
	})
}

// On a real engine: what the node pulled goes, what another one brought stays,
// and so does what a container uses.
func TestOnlyOwnImagesLeaveDocker(t *testing.T) {
	d, foreign := realDocker(t)
	r := registrytest.New(t, registrytest.Config{})
	push := func(name string) string {
		layer, err := random.Layer(10_000, types.DockerLayer)
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(empty.Image, layer)
		if err != nil {
			t.Fatal(err)
		}
		ref := r.Push(t, "spillway-test-"+name+":1", img)
		t.Cleanup(func() {
			if err := d.RemoveImage(context.WithoutCancel(t.Context()), ref); err != nil {
				t.Error(err)
			}
		})
		return ref
	}
	own, used, pulledBefore := push("own"), push("used"), push("before")
	if err := d.Pull(t.Context(), pulledBefore, nil); err != nil {
		t.Fatal(err)
	}
	cfg := newWorld(t).config()
	cfg.Driver, cfg.ImageBudget = d, 1
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{foreign, own, used, pulledBefore} {
		if err := n.images.pull(t.Context(), image, nil); err != nil {
			t.Fatal(err)
		}
	}
	id, err := d.Create(t.Context(), runtime.Spec{Image: used, Command: []string{"/x"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(context.WithoutCancel(t.Context()), id); err != nil {
			t.Error(err)
		}
	})
	there := func(image string) bool {
		_, err := d.Image(t.Context(), image)
		if err != nil && !errors.Is(err, functions.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	if _, err := n.images.collect(t.Context()); err != nil || !there(own) {
		t.Errorf("collect = %v; own image there: %v, within an hour of its use", err, there(own))
	}
	now = now.Add(2 * time.Hour)
	if freed, err := n.images.collect(t.Context()); err != nil || freed == 0 {
		t.Fatalf("collect = %s, %v", freed, err)
	}
	if there(own) || !there(used) || !there(foreign) || !there(pulledBefore) {
		t.Errorf("own %v, used %v, foreign %v, pulled before %v", there(own), there(used), there(foreign), there(pulledBefore))
	}
	var kept map[string]imageUse
	data, err := os.ReadFile(filepath.Join(cfg.DataDir, "images.json"))
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if _, ok := kept[used]; err != nil || len(kept) != 1 || !ok || !strings.HasPrefix(kept[used].ID, "sha256:") {
		t.Errorf("images.json: %s, %v", data, err)
	}
}
