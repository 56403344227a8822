package tasklog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func openRegistry(t *testing.T, l *Log) *Registry {
	t.Helper()
	r, err := l.Registry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	background(t, r.Run)
	<-r.Ready()
	return r
}

func deploySpec(name functions.Name, image string) functions.Spec {
	return functions.Spec{Name: name, Image: image}
}

func mustDeploy(t *testing.T, r *Registry, s functions.Spec, version int, created bool) {
	t.Helper()
	f, c, err := r.Deploy(t.Context(), s)
	if err != nil || c != created || f.Version != version || f.Image != s.Image {
		t.Fatalf("deploy of %s: version %d of %s, created %v, %v; want version %d, created %v", s.Image, f.Version, f.Image, c, err, version, created)
	}
	got, err := r.Latest(s.Name) // its own writes are seen at once
	if err != nil || got.Version != version || got.Image != s.Image {
		t.Fatalf("latest after deploy: %+v, %v", got, err)
	}
}

func TestRegistryVersions(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir)
	l := openLog(t, s)
	r := openRegistry(t, l)
	other := openRegistry(t, openLog(t, s))

	mustDeploy(t, r, deploySpec("thumb", "a:1"), 1, true)
	mustDeploy(t, r, deploySpec("thumb", "a:1"), 1, false)
	mustDeploy(t, r, deploySpec("thumb", "a:2"), 2, true)
	mustDeploy(t, r, deploySpec("thumb", "a:1"), 3, true) // going back is a new version
	mustDeploy(t, other, deploySpec("thumb", "a:1"), 3, false)
	mustDeploy(t, r, deploySpec("latest", "b:1"), 1, true) // a name like the pointer's

	if err := r.Delete(t.Context(), "thumb"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Latest("thumb"); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("latest of a deleted function: %v", err)
	}
	if f, err := r.Version("thumb", 2); err != nil || f.Image != "a:2" {
		t.Errorf("version of a deleted function: %+v, %v", f, err)
	}
	if err := r.Delete(t.Context(), "thumb"); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("second delete: %v", err)
	}
	if list := r.List(); len(list) != 1 || list[0].Name != "latest" {
		t.Errorf("list %+v", list)
	}
	eventually(t, "the other server sees the deletion", func() bool { return len(other.List()) == 1 })
	mustDeploy(t, other, deploySpec("thumb", "a:1"), 4, true) // numbers are not given again
	eventually(t, "this server sees the deploy", func() bool { f, _ := r.Latest("thumb"); return f.Version == 4 })
	if vs := r.Versions("thumb"); len(vs) != 4 || vs[0].Version != 1 || vs[3].Version != 4 {
		t.Errorf("versions %+v", vs)
	}
	if _, err := r.Version("thumb", 5); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("version 5: %v", err)
	}
	if _, err := r.Latest("nothing"); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("latest of nothing: %v", err)
	}
	if _, _, err := r.Deploy(t.Context(), deploySpec("thumb", "")); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("a bad spec: %v", err)
	}
}

// TestDeployOfWhatIsInForceIsSeenAtOnce: a server that lags behind answers by the
// version that it has just told somebody of.
func TestDeployOfWhatIsInForceIsSeenAtOnce(t *testing.T) {
	s := startServer(t, t.TempDir())
	l := openLog(t, s)
	lags, err := l.Registry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, lags.Run)
	<-lags.Ready()
	stop()
	r := openRegistry(t, openLog(t, s))
	mustDeploy(t, r, deploySpec("thumb", "a:1"), 1, true)
	mustDeploy(t, r, deploySpec("thumb", "a:2"), 2, true)
	mustDeploy(t, lags, deploySpec("thumb", "a:2"), 2, false)
}

func TestRegistryOutlivesRestart(t *testing.T) {
	cfg := ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "x"}
	s := startServerWith(t, cfg)
	l := openWith(t, Config{URL: s.ClientURL(), Token: "x"})
	cfg.Listen = strings.TrimPrefix(s.ClientURL(), "nats://")
	r := openRegistry(t, l)
	mustDeploy(t, r, deploySpec("thumb", "a:1"), 1, true)
	s.Shutdown()
	if f, err := r.Latest("thumb"); err != nil || f.Version != 1 {
		t.Errorf("without a server: %+v, %v", f, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := r.Deploy(ctx, deploySpec("thumb", "a:2")); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("deploy without a server: %v", err)
	}
	s = startServerWith(t, cfg)
	other := openRegistry(t, openLog(t, s))
	mustDeploy(t, other, deploySpec("thumb", "a:2"), 2, true)
	eventually(t, "the change is seen", func() bool { f, _ := r.Latest("thumb"); return f.Version == 2 })
}

func TestRegistryBeforeItsFirstReading(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	r, err := l.Registry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Latest("thumb"); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("latest: %v", err)
	}
	if _, err := r.Version("thumb", 1); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("version: %v", err)
	}
}

// TestConcurrentDeploys: every deploy becomes a version of its own, and none is
// overwritten.
func TestConcurrentDeploys(t *testing.T) {
	s := startServer(t, t.TempDir())
	regs := []*Registry{openRegistry(t, openLog(t, s)), openRegistry(t, openLog(t, s)), openRegistry(t, openLog(t, s))}
	const each = 8
	var mu sync.Mutex
	got := map[int]string{} // version to image, as its deployer was told
	var g sync.WaitGroup
	for i, r := range regs {
		g.Go(func() {
			for n := range each {
				image := fmt.Sprintf("server%d:%d", i, n)
				f, created, err := r.Deploy(t.Context(), deploySpec("thumb", image))
				if err != nil || !created {
					t.Errorf("deploy: created %v, %v", created, err)
					return
				}
				mu.Lock()
				if was, ok := got[f.Version]; ok {
					t.Errorf("version %d is %s and %s", f.Version, was, image)
				}
				got[f.Version] = image
				mu.Unlock()
			}
		})
	}
	g.Wait()
	const all = 3 * each
	for _, r := range regs {
		eventually(t, "all versions are seen", func() bool { f, _ := r.Latest("thumb"); return f.Version == all })
		for v := 1; v <= all; v++ {
			if f, err := r.Version("thumb", v); err != nil || f.Image != got[v] {
				t.Errorf("version %d is %s, its deployer was told %s: %v", v, f.Image, got[v], err)
			}
		}
	}
}

func TestConcurrentIdenticalDeploys(t *testing.T) {
	s := startServer(t, t.TempDir())
	var mu sync.Mutex
	made := 0
	var g sync.WaitGroup
	for range 4 {
		r := openRegistry(t, openLog(t, s))
		g.Go(func() {
			f, created, err := r.Deploy(t.Context(), deploySpec("thumb", "a:1"))
			if err != nil || f.Version != 1 {
				t.Errorf("version %d, %v", f.Version, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if created {
				made++
			}
		})
	}
	g.Wait()
	if made != 1 {
		t.Errorf("%d deploys made version 1", made)
	}
}

// TestDeployAfterACrashedOne: a server died between version and pointer.
func TestDeployAfterACrashedOne(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	r := openRegistry(t, l)
	mustDeploy(t, r, deploySpec("thumb", "a:1"), 1, true)
	orphan := functions.Function{Spec: deploySpec("thumb", "a:2").WithDefaults(), Version: 2}
	if mine, err := r.create(t.Context(), orphan); err != nil || !mine {
		t.Fatal(mine, err)
	}
	if f, err := r.Latest("thumb"); err != nil || f.Version != 1 {
		t.Errorf("latest %d, %v", f.Version, err)
	}
	if vs := r.Versions("thumb"); len(vs) != 1 {
		t.Errorf("%d versions", len(vs))
	}
	mustDeploy(t, r, deploySpec("thumb", "a:3"), 3, true)
	orphan.Version = 4
	if _, err := r.create(t.Context(), orphan); err != nil {
		t.Fatal(err)
	}
	mustDeploy(t, r, deploySpec("thumb", "a:2"), 4, false) // the crashed one, finished
}
