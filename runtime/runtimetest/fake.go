package runtimetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

var _ runtime.Driver = (*Fake)(nil)

// Program is what an image of a Fake does; it returns the exit code. Its ctx
// ends when the container is killed.
type Program func(ctx context.Context, p *Process) int

// Fake is a driver whose containers are goroutines. It behaves as the contract
// says, so that what passes with it passes with an engine.
type Fake struct {
	mu         sync.Mutex // guards the fields below, and every container's
	images     map[string]fakeImage
	containers map[runtime.ID]*container
	made       int
	launch     func(ctx context.Context, spec runtime.Spec) error
	down       bool
}

// fakeImage is an image that is a Go function.
type fakeImage struct {
	runtime.Image
	program Program
}

// NewFake returns a driver without images.
func NewFake() *Fake {
	return &Fake{images: map[string]fakeImage{}, containers: map[runtime.ID]*container{}}
}

// Add makes an image present whose containers run p.
func (f *Fake) Add(name string, p Program) {
	f.AddImage(name, runtime.Image{Size: functions.MiB, Entrypoint: []string{"/box"}}, p)
}

// AddImage is Add for an image of which there is more to tell. Its name and ID
// are set here.
func (f *Fake) AddImage(name string, img runtime.Image, p Program) {
	f.mu.Lock()
	defer f.mu.Unlock()
	img.Names, img.ID = []string{name}, "fake:"+name
	f.images[name] = fakeImage{img, p}
}

// OnLaunch sets what happens when a container starts; nil undoes it. An error
// fails the start with its text as the engine's words. While hook blocks, the
// start hangs: when the caller's ctx ends first, the caller is told so, and the
// container starts late once hook returns nil, as Docker does. hook's ctx is
// not the caller's: it ends when the container is removed.
func (f *Fake) OnLaunch(hook func(ctx context.Context, spec runtime.Spec) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.launch = hook
}

// SetDown makes the engine answer nothing but ErrUnavailable. Containers run on.
func (f *Fake) SetDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// Specs returns the spec of every container there is, oldest first.
func (f *Fake) Specs() []runtime.Spec {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.SortedFunc(maps.Values(f.containers), byAge)
	specs := make([]runtime.Spec, len(all))
	for i, c := range all {
		specs[i] = c.spec
	}
	return specs
}

// Name implements runtime.Driver.
func (f *Fake) Name() string { return "fake" }

// Probe implements runtime.Driver.
func (f *Fake) Probe(ctx context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return "in memory", f.up(ctx)
}

// Pull implements runtime.Driver.
func (f *Fake) Pull(ctx context.Context, image string, _ func(runtime.PullProgress)) error {
	_, err := f.Image(ctx, image)
	return err
}

// Image implements runtime.Driver.
func (f *Fake) Image(ctx context.Context, image string) (runtime.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.up(ctx); err != nil {
		return runtime.Image{}, err
	}
	img, ok := f.images[image]
	if !ok {
		return runtime.Image{}, noImage(image)
	}
	return img.Image, nil
}

// Images implements runtime.Driver.
func (f *Fake) Images(ctx context.Context) ([]runtime.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []runtime.Image
	for _, name := range slices.Sorted(maps.Keys(f.images)) {
		all = append(all, f.images[name].Image)
	}
	return all, f.up(ctx)
}

// RemoveImage implements runtime.Driver.
func (f *Fake) RemoveImage(ctx context.Context, image string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.up(ctx); err != nil {
		return err
	}
	for _, c := range f.containers {
		if c.spec.Image == image {
			return functions.Conflict("image_in_use", "image %s is used by a container", image)
		}
	}
	delete(f.images, image)
	return nil
}

// Create implements runtime.Driver.
func (f *Fake) Create(ctx context.Context, spec runtime.Spec) (runtime.ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	refuse := func(err error) (runtime.ID, error) {
		return "", &runtime.LaunchError{Stage: runtime.StageCreate, Message: err.Error(), Err: err}
	}
	if err := f.up(ctx); err != nil {
		return refuse(err)
	}
	img, ok := f.images[spec.Image]
	if !ok {
		return refuse(noImage(spec.Image))
	}
	for _, c := range f.containers {
		if spec.Name != "" && c.spec.Name == spec.Name {
			return refuse(runtime.NameInUse(spec.Name))
		}
	}
	f.made++
	c := newContainer(f.made, spec, img.program)
	f.containers[c.id] = c
	return c.id, nil
}

// Start implements runtime.Driver.
func (f *Fake) Start(ctx context.Context, id runtime.ID, streams runtime.Streams) error {
	f.mu.Lock()
	c, err := f.find(ctx, id)
	launch := f.launch
	f.mu.Unlock()
	refuse := func(err error) error {
		return &runtime.LaunchError{Stage: runtime.StageStart, Message: err.Error(), Hung: errors.Is(err, context.DeadlineExceeded), Err: err}
	}
	if err != nil {
		return refuse(err)
	}
	if launch == nil {
		return f.run(c, streams)
	}
	answer := make(chan error, 1)
	go func() {
		err := launch(c.alive, c.spec)
		if err == nil {
			err = f.run(c, streams)
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		if err == nil {
			return nil
		}
		return refuse(err)
	case <-ctx.Done():
		return refuse(ctx.Err())
	}
}

// run starts the program of a container that is still there.
func (f *Fake) run(c *container, streams runtime.Streams) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.alive.Err() != nil:
		return runtime.ContainerMissing(c.id)
	case !c.started.IsZero():
		return functions.Conflict("already_started", "container %s was started before", c.id)
	}
	c.started = time.Now()
	c.follow(streams)
	go func() {
		exit := c.execute(streams.Stdin)
		c.kill(nil) // nothing runs any more
		f.mu.Lock()
		exit.StartedAt, exit.FinishedAt = c.started, time.Now()
		c.exit = exit
		f.mu.Unlock()
		close(c.exited)
	}()
	return nil
}

// Attach implements runtime.Driver.
func (f *Fake) Attach(ctx context.Context, id runtime.ID, streams runtime.Streams) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.find(ctx, id)
	if err != nil {
		return err
	}
	c.follow(streams)
	return nil
}

// Wait implements runtime.Driver.
func (f *Fake) Wait(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	f.mu.Lock()
	c, err := f.find(ctx, id)
	var never bool
	if c != nil {
		never = c.started.IsZero()
	}
	f.mu.Unlock()
	if err != nil {
		return runtime.Exit{}, err
	}
	if never {
		return runtime.Exit{}, runtime.NotStarted(id)
	}
	select {
	case <-c.exited:
	case <-ctx.Done():
		return runtime.Exit{}, fmt.Errorf("wait for container: %w", context.Cause(ctx))
	}
	c.followers.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.exit, nil
}

// Stop implements runtime.Driver.
func (f *Fake) Stop(ctx context.Context, id runtime.ID, grace time.Duration) error {
	f.mu.Lock()
	c, err := f.find(ctx, id)
	idle := c == nil || c.started.IsZero()
	f.mu.Unlock()
	if errors.Is(err, functions.ErrNotFound) || (err == nil && idle) {
		return nil
	}
	if err != nil {
		return err
	}
	if grace > 0 {
		c.process.terminate()
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-c.exited:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stop container: %w", context.Cause(ctx))
		case <-timer.C:
		}
	}
	c.kill(errKilled)
	<-c.exited
	return nil
}

// Remove implements runtime.Driver.
func (f *Fake) Remove(ctx context.Context, id runtime.ID) error {
	f.mu.Lock()
	c, err := f.find(ctx, id)
	var ran bool
	if err == nil {
		delete(f.containers, id)
		c.kill(errKilled)
		ran = !c.started.IsZero()
	}
	f.mu.Unlock()
	switch {
	case errors.Is(err, functions.ErrNotFound):
		return nil
	case err != nil:
		return err
	case ran:
		<-c.exited
	}
	return nil
}

// List implements runtime.Driver.
func (f *Fake) List(ctx context.Context, labels map[string]string) ([]runtime.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.up(ctx); err != nil {
		return nil, err
	}
	var infos []runtime.Info
	for _, c := range slices.SortedFunc(maps.Values(f.containers), byAge) {
		if c.carries(labels) {
			infos = append(infos, runtime.Info{ID: c.id, Name: c.spec.Name, Labels: maps.Clone(c.spec.Labels), State: c.state()})
		}
	}
	return infos, nil
}

// Usage implements runtime.Driver.
func (f *Fake) Usage(ctx context.Context, id runtime.ID) (runtime.Usage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.find(ctx, id)
	if err != nil {
		return runtime.Usage{}, err
	}
	return c.process.usage(), nil
}

// up is called with mu held, find too.
func (f *Fake) up(ctx context.Context) error {
	if f.down {
		return functions.Unavailable("engine_unreachable", "the container engine does not answer")
	}
	return ctx.Err()
}

func (f *Fake) find(ctx context.Context, id runtime.ID) (*container, error) {
	if err := f.up(ctx); err != nil {
		return nil, err
	}
	c := f.containers[id]
	if c == nil {
		return nil, runtime.ContainerMissing(id)
	}
	return c, nil
}

func noImage(image string) error {
	return functions.NotFound("image_missing", "No such image: %s", image)
}

func byAge(a, b *container) int { return cmp.Compare(a.number, b.number) }

// discard stands for a nil writer.
func discard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
