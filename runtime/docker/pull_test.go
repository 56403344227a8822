package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/registry"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/registrytest"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestPullProgressOfTheEngine(t *testing.T) {
	answer := `{"status":"Pulling from a","id":"1"}
{"status":"Pulling fs layer","progressDetail":{},"id":"x"}
{"status":"Pulling fs layer","progressDetail":{},"id":"y"}
{"status":"Already exists","progressDetail":{},"id":"z"}
{"status":"Downloading","progressDetail":{"current":40,"total":100},"id":"x"}
{"status":"Downloading","progressDetail":{"current":40,"total":100},"id":"x"}
{"status":"Downloading","progressDetail":{"current":5,"total":-1},"id":"y"}
{"status":"Download complete","progressDetail":{},"id":"x"}
{"status":"Extracting","progressDetail":{"current":7,"total":9},"id":"x"}
{"status":"Pull complete","progressDetail":{},"id":"x"}
{"status":"Pull complete","progressDetail":{},"id":"y"}
{"status":"Digest: sha256:0"}`
	p, heard := pulling{}, []string{}
	err := messages(strings.NewReader(answer), func(m message) {
		if p.hear(m) {
			now := p.progress()
			heard = append(heard, fmt.Sprintf("%d/%d %d/%d", now.Done, now.Total, now.Layers, now.Of))
		}
	})
	want := []string{"0/0 0/1", "0/0 0/2", "0/0 1/3", "40/100 1/3", "45/105 1/3", "105/105 1/3", "105/105 2/3", "105/105 3/3"}
	if err != nil || !slices.Equal(heard, want) {
		t.Errorf("heard %q, %v; want %q", heard, err, want)
	}
}

// pushed puts the test image into a registry, under a name that no test used.
func pushed(t *testing.T, r *registrytest.Registry) string {
	t.Helper()
	tag, archive := runtimetest.BoxImage(t)
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, &ref)
	if err == nil { // the engine has the image's layer by its other name
		var own v1.Layer
		if own, err = random.Layer(200_000, types.DockerLayer); err == nil {
			img, err = mutate.AppendLayers(img, own)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return r.Push(t, tag, img)
}

// puller is a driver of this machine's engine that forgets what it pulls.
func puller(t *testing.T, c Config, images ...string) *Driver {
	t.Helper()
	d, _ := engine(t, c)
	t.Cleanup(func() {
		for _, image := range images {
			if err := d.RemoveImage(context.WithoutCancel(t.Context()), image); err != nil {
				t.Errorf("remove what was pulled: %v", err)
			}
		}
	})
	return d
}

func TestPullFromARegistry(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	image := pushed(t, r)
	d := puller(t, Config{}, image)
	hold := make(chan struct{})
	r.SetFaults(registrytest.Faults{Hold: hold})
	go func() { // when the first blob is asked for, most of the others have had time to join
		defer close(hold)
		for len(r.Fetched()) == 0 && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}()
	var all sync.WaitGroup
	var late atomic.Int32
	for range 8 {
		all.Go(func() {
			var last runtime.PullProgress
			if err := d.Pull(t.Context(), image, func(p runtime.PullProgress) { last = p }); err != nil {
				t.Errorf("pull: %v", err)
			}
			if last == (runtime.PullProgress{}) { // the image was there when it came
				late.Add(1)
			} else if last.Of != 2 || last.Layers != 2 || last.Done != last.Total || last.Total == 0 {
				t.Errorf("the last progress is %+v", last)
			}
		})
	}
	all.Wait()
	if late.Load() == 8 {
		t.Error("nobody was told of progress")
	}
	for blob, n := range r.Fetched() {
		if n != 1 {
			t.Errorf("blob %s was fetched %d times", blob, n)
		}
	}
	if img, err := d.Image(t.Context(), image); err != nil || !slices.Contains(img.Names, image) || img.Entrypoint[0] != "/box" {
		t.Errorf("image is %+v, %v", img, err)
	}
	if err := d.Pull(t.Context(), image, func(runtime.PullProgress) { t.Error("an image that is present makes progress") }); err != nil {
		t.Error(err)
	}
	if err := d.Pull(t.Context(), r.Addr+"/none:1", nil); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("pull of no image: %v", err)
	}
}

func TestPullWithCredentials(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{Username: "u", Password: "p"})
	image := pushed(t, r)
	password := "wrong"
	var asked []string
	d := puller(t, Config{Auth: func(from string) (string, string, bool, error) {
		asked = append(asked, from)
		if password == "broken" {
			return "", "", false, errors.New("the helper is broken")
		}
		return "u", password, password != "", nil
	}}, image)
	for _, password = range []string{"wrong", ""} {
		err := d.Pull(t.Context(), image, nil)
		var known *functions.Error
		if !errors.Is(err, functions.ErrForbidden) || !errors.As(err, &known) || !strings.Contains(known.Hint, "docker login "+r.Addr) {
			t.Errorf("pull with password %q: %v", password, err)
		}
	}
	password = "broken"
	if err := d.Pull(t.Context(), image, nil); err == nil || !strings.Contains(err.Error(), "the helper is broken") {
		t.Errorf("pull with a broken helper: %v", err)
	}
	password = "p"
	if err := d.Pull(t.Context(), image, nil); err != nil {
		t.Errorf("pull with the right password: %v", err)
	}
	if slices.ContainsFunc(asked, func(a string) bool { return a != r.Addr }) {
		t.Errorf("credentials were asked for %q", asked)
	}
}

func TestIdentityTokens(t *testing.T) {
	d, err := New(Config{Auth: func(string) (string, string, bool, error) { return "<token>", "secret", true, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	header, err := d.credentials("reg.test")
	if err != nil {
		t.Fatal(err)
	}
	got, err := registry.DecodeAuthConfig(header)
	if err != nil || got.IdentityToken != "secret" || got.Username != "" || got.ServerAddress != "reg.test" {
		t.Errorf("header is %+v, %v", got, err)
	}
}
