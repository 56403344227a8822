package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/registrytest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(pullerDir); dir != "" {
		os.Exit(pullForEver(dir, os.Getenv(pullerRef)))
	}
	goleak.VerifyTestMain(m)
}

// imageOf makes an image for this machine of layers, the lowest first.
func imageOf(t testing.TB, config v1.Config, layers ...[]byte) v1.Image {
	t.Helper()
	return imageFor(t, goruntime.GOARCH, config, layers...)
}

func imageFor(t testing.TB, arch string, config v1.Config, layers ...[]byte) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	for _, data := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Config = "linux", arch, config
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

// noise is a layer that does not compress, of one file.
func noise(t testing.TB, name string, size int) []byte {
	body := make([]byte, size)
	r := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", name))))
	if _, err := r.Read(body); err != nil {
		t.Fatal(err)
	}
	return tarOf(t, file(name, string(body)))
}

// open opens a store that reaches a registry.
func open(t testing.TB, r *registrytest.Registry, change func(*Config)) *Store {
	t.Helper()
	needsRoot(t)
	c := Config{Dir: filepath.Join(t.TempDir(), "images"), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if r != nil {
		c.Transport = r.Transport(t)
	}
	if change != nil {
		change(&c)
	}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustPull(t testing.TB, s *Store, refs ...string) {
	t.Helper()
	for _, ref := range refs {
		if err := s.Pull(t.Context(), ref, nil); err != nil {
			t.Fatalf("pull %s: %v", ref, err)
		}
	}
}

// nothingHalf checks that nothing unfinished is left, and that each layer there is
// whole.
func nothingHalf(t testing.TB, s *Store) {
	t.Helper()
	left, err := os.ReadDir(s.path("tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v %v", left, err)
	}
	if _, err := s.layerSizes(); err != nil {
		t.Error(err)
	}
}

func TestPullByTagAndDigest(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	base := noise(t, "base", 50_000)
	img := imageOf(t, v1.Config{
		Entrypoint: []string{"/run"}, Cmd: []string{"now"}, Env: []string{"A=b"}, WorkingDir: "/w", User: "7:8", Labels: map[string]string{"l": "v"},
	}, base, tarOf(t, folder("w"), file("run", "#!")), base)
	name := r.Push(t, "team/app:1", img)
	var last Progress
	if err := s.Pull(t.Context(), name, func(p Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.Layers != 2 || last.Of != 2 || last.Done != last.Total || last.Total < 50_000 {
		t.Errorf("the last progress is %+v", last)
	}
	got, err := s.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != id.String() || !slices.Equal(got.Names, []string{name}) || got.Size < 50_000 || got.Entrypoint[0] != "/run" || got.Command[0] != "now" ||
		got.Env[0] != "A=b" || got.WorkDir != "/w" || got.User != "7:8" || got.Labels["l"] != "v" {
		t.Errorf("image is %+v", got)
	}
	dirs, release, err := s.Layers(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if len(dirs) != 2 { // the one that is there twice counts where it is higher
		t.Fatalf("layers: %q", dirs)
	}
	if _, err := os.Stat(filepath.Join(dirs[0], "run")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dirs[1], "base")); err != nil {
		t.Error(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	byDigest := r.Addr + "/team/app@" + digest.String()
	mustPull(t, s, name, byDigest, got.ID)
	for blob, n := range r.Fetched() {
		if n > 1 && blob != id.String() {
			t.Errorf("blob %s was fetched %d times", blob, n)
		}
	}
	all, err := s.Images(t.Context())
	if err != nil || len(all) != 1 || !slices.Equal(all[0].Names, []string{name, byDigest}) {
		t.Errorf("images: %+v %v", all, err)
	}
	nothingHalf(t, s)
}

func TestLayersMayBeCompressedInAnyWay(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	for _, how := range []compression.Compression{compression.None, compression.GZip, compression.ZStd} {
		layer, err := tarball.LayerFromOpener(opener(noise(t, string(how), 100_000)), tarball.WithCompression(how))
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(imageOf(t, v1.Config{}), layer)
		if err != nil {
			t.Fatal(err)
		}
		name := r.Push(t, "c:"+string(how), img)
		mustPull(t, s, name)
		dirs, release, err := s.Layers(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		release()
		if _, err := os.Stat(filepath.Join(dirs[0], string(how))); err != nil {
			t.Error(err)
		}
	}
}

// While others pull, remove and collect, whoever leases an image keeps all of it.
func TestLeasesHoldInTheCrowd(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	dir := filepath.Join(t.TempDir(), "images")
	var stores []*Store // as if of two processes
	for range 2 {
		stores = append(stores, open(t, r, func(c *Config) { c.Dir, c.Budget = dir, 300*functions.KiB }))
	}
	base := noise(t, "base", 50_000)
	var names []string
	for _, n := range []string{"a", "b", "c", "d"} {
		names = append(names, r.Push(t, n+":1", imageOf(t, v1.Config{}, base, noise(t, n, 80_000))))
	}
	var all sync.WaitGroup
	var leases atomic.Int32
	for i := range 6 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			s := stores[i%2]
			for range 12 {
				name := names[random.IntN(len(names))]
				if i == 0 {
					if _, err := s.GC(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if err := s.Pull(t.Context(), name, nil); err != nil && !errors.Is(err, functions.ErrTooLarge) {
					t.Error(err)
				}
				dirs, release, err := s.Layers(t.Context(), name)
				if errors.Is(err, functions.ErrNotFound) {
					continue // removed again already
				}
				if err != nil {
					t.Error(err)
					continue
				}
				leases.Add(1)
				time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
				if len(dirs) != 2 {
					t.Errorf("%s has layers %q", name, dirs)
				}
				for _, d := range dirs {
					if found, err := os.ReadDir(d); err != nil || len(found) != 1 {
						t.Errorf("leased layer: %v %v", found, err)
					}
				}
				release()
				if err := s.RemoveImage(t.Context(), name); err != nil && !errors.Is(err, functions.ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if leases.Load() == 0 {
		t.Error("nothing was ever leased")
	}
	nothingHalf(t, stores[0])
	for i, s := range stores {
		if s.pending != 0 {
			t.Errorf("store %d has %s booked", i, s.pending)
		}
	}
}

func TestPullTakesThisMachinesPlatform(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	add := func(arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{
			Add:        imageFor(t, arch, v1.Config{}, noise(t, arch, 100)),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		}
	}
	name := r.Push(t, "many:1", mutate.AppendManifests(empty.Index, add("s390x"), add(goruntime.GOARCH)))
	mustPull(t, s, name)
	dirs, release, err := s.Layers(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := os.Stat(filepath.Join(dirs[0], goruntime.GOARCH)); err != nil {
		t.Error(err)
	}
	foreign := r.Push(t, "many:2", mutate.AppendManifests(empty.Index, add("s390x")))
	alien := r.Push(t, "many:3", imageFor(t, "s390x", v1.Config{}))
	for _, ref := range []string{foreign, alien} {
		if err := s.Pull(t.Context(), ref, nil); !errors.Is(err, functions.ErrNotFound) || !strings.Contains(err.Error(), goruntime.GOARCH) {
			t.Errorf("pull for another platform: %v", err)
		}
	}
}

func TestTwentyPullsFetchOnce(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	base := noise(t, "base", 100_000)
	names := []string{
		r.Push(t, "a:1", imageOf(t, v1.Config{}, base, noise(t, "a", 10_000))),
		r.Push(t, "b:1", imageOf(t, v1.Config{}, base, noise(t, "b", 10_000))),
	}
	hold := make(chan struct{})
	r.SetFaults(registrytest.Faults{Hold: hold})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			var last Progress
			if err := s.Pull(t.Context(), names[i%2], func(p Progress) { last = p }); err != nil || last.Layers != 2 {
				t.Errorf("pull: %v, %+v", err, last)
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // the more meet the better; the count must hold however many do
	close(hold)
	all.Wait()
	fetched := r.Fetched()
	if len(fetched) != 5 { // three layers, two configurations
		t.Errorf("fetched %d blobs", len(fetched))
	}
	for blob, n := range fetched {
		if n != 1 {
			t.Errorf("blob %s was fetched %d times", blob, n)
		}
	}
	nothingHalf(t, s)
}

func TestCredentials(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{Username: "u", Password: "p", TLS: true})
	name := r.Push(t, "secret:1", imageOf(t, v1.Config{}, noise(t, "a", 100)))
	for who, auth := range map[string]authn.Keychain{"right": keys{"u", "p"}, "wrong": keys{"u", "q"}, "none": nil} {
		t.Run(who, func(t *testing.T) {
			s := open(t, r, func(c *Config) { c.Auth = auth })
			err := s.Pull(t.Context(), name, nil)
			if who == "right" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var known *functions.Error
			if !errors.Is(err, functions.ErrForbidden) || !errors.As(err, &known) {
				t.Fatalf("pull = %v, want forbidden", err)
			}
			if !strings.Contains(known.Message, r.Addr) || !strings.Contains(known.Hint, "docker login "+r.Addr) {
				t.Errorf("the error does not say what to do: %s / %s", known.Message, known.Hint)
			}
			if all, err := s.Images(t.Context()); err != nil || len(all) > 0 {
				t.Errorf("images: %v %v", all, err)
			}
		})
	}
}

type keys struct{ user, password string }

func (k keys) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: k.user, Password: k.password}, nil
}

func TestPullErrors(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	there := r.Push(t, "a:1", imageOf(t, v1.Config{}, noise(t, "a", 100)))
	for ref, class := range map[string]error{
		r.Addr + "/none:1":                  functions.ErrNotFound,
		r.Addr + "/a:2":                     functions.ErrNotFound,
		"127.0.0.1:1/a:1":                   functions.ErrUnavailable,
		"Not A Name":                        functions.ErrInvalid,
		"":                                  functions.ErrInvalid,
		"sha256:" + strings.Repeat("0", 64): functions.ErrNotFound,
	} {
		err := s.Pull(t.Context(), ref, nil)
		var known *functions.Error
		if !errors.Is(err, class) || !errors.As(err, &known) || known.Hint == "" {
			t.Errorf("pull %q = %v, want %v with a hint", ref, err, class)
		}
	}
	r.SetFaults(registrytest.Faults{Status: http.StatusInternalServerError})
	if err := s.Pull(t.Context(), there, nil); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("pull from a broken registry: %v", err)
	}
}

// A registry on the network must have a certificate, or be listed.
func TestPlainHTTPIsForThoseListed(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	name := strings.Replace(r.Push(t, "a:1", imageOf(t, v1.Config{}, noise(t, "a", 100))), "127.0.0.1", "registry.test", 1)
	for _, listed := range []bool{false, true} {
		s := open(t, r, func(c *Config) {
			c.Transport = renamed{"registry.test", c.Transport}
			if listed {
				c.Insecure = []string{"registry.test"}
			}
		})
		if err := s.Pull(t.Context(), name, nil); (err == nil) != listed {
			t.Errorf("listed %v: pull = %v", listed, err)
		}
	}
	g := guard{next: http.DefaultTransport}
	req, err := http.NewRequest(http.MethodGet, "http://192.168.1.1/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.RoundTrip(req); !errors.Is(err, functions.ErrForbidden) {
		t.Errorf("a request in the clear: %v", err)
	}
}

// renamed finds a name on the loopback.
type renamed struct {
	name string
	next http.RoundTripper
}

func (n renamed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = strings.Replace(r.URL.Host, n.name, "127.0.0.1", 1)
	return n.next.RoundTrip(r)
}

func TestBrokenTransfersAreTriedAgain(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	name := r.Push(t, "a:1", imageOf(t, v1.Config{}, noise(t, "a", 300_000), noise(t, "b", 300_000)))
	r.SetFaults(registrytest.Faults{Cut: 3})
	var last Progress
	if err := s.Pull(t.Context(), name, func(p Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.Done != last.Total || last.Layers != 2 {
		t.Errorf("the last progress is %+v", last)
	}
	nothingHalf(t, s)
}

func TestRegistryThatDiesLeavesNoHalfImage(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	whole := noise(t, "small", 1000)
	name := r.Push(t, "a:1", imageOf(t, v1.Config{}, whole, noise(t, "big", 300_000)))
	r.SetFaults(registrytest.Faults{Cut: -1})
	err := s.Pull(t.Context(), name, nil)
	if !errors.Is(err, functions.ErrUnavailable) || !strings.Contains(err.Error(), r.Addr) {
		t.Errorf("pull = %v, want unavailable and the registry's name", err)
	}
	if _, err := s.Image(t.Context(), name); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("the image is there: %v", err)
	}
	nothingHalf(t, s)
	before := r.Fetched()
	r.SetFaults(registrytest.Faults{})
	mustPull(t, s, name)
	again := 0
	for blob, n := range r.Fetched() {
		again += n - before[blob]
	}
	if again != 2 { // the configuration and the layer that was missing
		t.Errorf("the second pull fetched %d blobs", again)
	}
}

func TestPullEndsWithItsContext(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	name := r.Push(t, "a:1", imageOf(t, v1.Config{}, noise(t, "a", 300_000)))
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	hold := make(chan struct{})
	defer close(hold)
	r.SetFaults(registrytest.Faults{Hold: hold})
	go func() {
		close(started)
		for len(r.Fetched()) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	<-started
	if err := s.Pull(ctx, name, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("pull = %v", err)
	}
	nothingHalf(t, s)
}

func TestLayerThatIsNotWhatItsConfigurationSays(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	img := imageOf(t, v1.Config{}, noise(t, "a", 1000))
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.RootFS.DiffIDs[0].Hex = strings.Repeat("ab", 32)
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	name := r.Push(t, "lie:1", img)
	if err := s.Pull(t.Context(), name, nil); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("pull = %v, want invalid", err)
	}
	nothingHalf(t, s)
}

func TestRemoveImage(t *testing.T) {
	r := registrytest.New(t, registrytest.Config{})
	s := open(t, r, nil)
	base := noise(t, "base", 1000)
	img := imageOf(t, v1.Config{}, base, noise(t, "a", 1000))
	one, two := r.Push(t, "a:1", img), r.Push(t, "a:2", img)
	other := r.Push(t, "b:1", imageOf(t, v1.Config{}, base))
	mustPull(t, s, one, two, other)
	dirs, release, err := s.Layers(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveImage(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveImage(t.Context(), two); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("removing a leased image: %v", err)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if _, err := os.Stat(d); err != nil {
			t.Errorf("a leased layer: %v", err)
		}
	}
	release()
	release() // once more changes nothing
	if err := s.RemoveImage(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{two, one, "never:there"} {
		if err := s.RemoveImage(t.Context(), ref); err != nil {
			t.Errorf("removing what is gone: %v", err)
		}
	}
	if _, err := os.Stat(dirs[0]); err != nil {
		t.Errorf("a layer of another image: %v", err)
	}
	if _, err := os.Stat(dirs[1]); err == nil {
		t.Error("a layer that no image has is still there")
	}
	if _, _, err := s.Layers(t.Context(), two); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("leasing what is gone: %v", err)
	}
	nothingHalf(t, s)
}
