package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// rested is how long an image was not used before it may go.
const rested = time.Hour

// imageUse is what the node remembers of an image that it has pulled.
type imageUse struct {
	ID   string    `json:"id"`
	Used time.Time `json:"used"` // to about a minute
}

// pulled are the images that this node has pulled, by name. What somebody else
// has brought to the machine is not among them, and is never removed.
type pulled struct {
	driver runtime.Driver
	file   string // keeps them from one agent to the next
	budget functions.Bytes
	busy   func() map[string]bool // images of attempts that the node holds
	log    *slog.Logger
	now    func() time.Time

	mu       sync.Mutex // guards the fields below
	images   map[string]imageUse
	removing map[string]chan struct{} // closed when the removal is over
}

func newPulled(cfg Config, busy func() map[string]bool) *pulled {
	return &pulled{
		driver: cfg.Driver, file: filepath.Join(cfg.DataDir, "images.json"), budget: cfg.ImageBudget,
		busy: busy, log: cfg.Log, now: cfg.Now,
		images: map[string]imageUse{}, removing: map[string]chan struct{}{},
	}
}

// open reads what an earlier agent has pulled. A file that cannot be read means
// that its images stay for ever.
func (p *pulled) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := readJSON(p.file, &p.images); err != nil || p.images == nil {
		p.log.Warn("images that were pulled are not known any more", "err", err)
		p.images = map[string]imageUse{}
	}
}

// pull makes an image present, and remembers it if bytes came for that.
func (p *pulled) pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	for removal := p.removal(image); removal != nil; removal = p.removal(image) {
		select {
		case <-removal:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var came atomic.Bool
	err := p.driver.Pull(ctx, image, func(now runtime.PullProgress) {
		came.Store(true)
		if progress != nil {
			progress(now)
		}
	})
	if err != nil {
		return err
	}
	id := ""
	if came.Load() {
		img, err := p.driver.Image(ctx, image)
		if err != nil { // it stays for ever then
			p.log.Warn("image that was pulled not remembered", "image", image, "err", err)
		}
		id = img.ID
	}
	p.used(image, id)
	return nil
}

// removal returns what ends when the image is removed; nil = it is not being
// removed.
func (p *pulled) removal(image string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removing[image]
}

// used notes the use of an image; id is set if it was pulled just now.
func (p *pulled) used(image, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.images[image]
	if !ok && id == "" {
		return
	}
	now := p.now()
	fresh := id != "" || now.Sub(known.Used) > time.Minute
	p.images[image] = imageUse{cmp.Or(id, known.ID), now}
	if fresh {
		p.save()
	}
}

// save writes down the images; the caller holds mu. What is not written down is
// not removed by the next agent.
func (p *pulled) save() {
	if err := writeJSON(p.file, p.images); err != nil {
		p.log.Warn("images that were pulled not written down", "err", err)
	}
}

// collect removes images until those that the node has pulled fit their budget.
func (p *pulled) collect(ctx context.Context) error {
	p.mu.Lock()
	known := maps.Clone(p.images)
	p.mu.Unlock()
	if len(known) == 0 {
		return nil
	}
	present, err := p.driver.Images(ctx)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	sizes := map[string]functions.Bytes{}
	for _, img := range present {
		sizes[img.ID] = img.Size
	}
	var all []ownImage
	busy := p.busy()
	for name, use := range known {
		if size, ok := sizes[use.ID]; ok {
			all = append(all, ownImage{name: name, imageUse: use, size: size, busy: busy[name]})
		} else {
			p.forget(name, use)
		}
	}
	var errs error
	for _, img := range surplus(all, p.budget, p.now()) {
		errs = errors.Join(errs, p.remove(ctx, img))
	}
	return errs
}

// forget drops an image that is gone, unless it was pulled again meanwhile.
func (p *pulled) forget(name string, use imageUse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.images[name] == use {
		delete(p.images, name)
		p.save()
	}
}

// remove removes one image, unless somebody uses it. Attempts that want it wait
// until it is gone, and pull it again.
func (p *pulled) remove(ctx context.Context, img ownImage) error {
	p.mu.Lock()
	if p.images[img.name] != img.imageUse || p.busy()[img.name] {
		p.mu.Unlock()
		return nil // used since
	}
	over := make(chan struct{})
	p.removing[img.name] = over
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.removing, img.name)
		p.mu.Unlock()
		close(over)
	}()
	now, err := p.driver.Image(ctx, img.name)
	if err == nil && now.ID == img.ID {
		err = p.driver.RemoveImage(ctx, img.name)
	}
	switch {
	case errors.Is(err, functions.ErrConflict): // a container has it
		p.log.Debug("image not removed", "image", img.name, "err", err)
		return nil
	case err != nil && !errors.Is(err, functions.ErrNotFound):
		return fmt.Errorf("remove image %s: %w", img.name, err)
	case err == nil && now.ID == img.ID:
		p.log.Info("image removed to make room", "image", img.name, "size", img.size, "used", img.Used)
	}
	p.forget(img.name, img.imageUse) // gone, or another one, which somebody else has brought
	return nil
}

// ownImage is an image that the node has pulled and that is there.
type ownImage struct {
	name string
	imageUse
	size functions.Bytes
	busy bool
}

// surplus is the images to remove so that what stays takes at most budget: the
// least recently used first, but none that is busy or was used within the last
// hour. Names of one image take its size together.
func surplus(all []ownImage, budget functions.Bytes, now time.Time) (remove []ownImage) {
	names := map[string]int{} // of each image
	var total functions.Bytes
	for _, img := range all {
		if names[img.ID]++; names[img.ID] == 1 {
			total += img.size
		}
	}
	oldest := slices.SortedFunc(slices.Values(all), func(a, b ownImage) int {
		return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(a.name, b.name))
	})
	for _, img := range oldest {
		if total <= budget {
			return remove
		}
		if img.busy || now.Sub(img.Used) < rested {
			continue
		}
		remove = append(remove, img)
		if names[img.ID]--; names[img.ID] == 0 {
			total -= img.size
		}
	}
	return remove
}

// collectImages keeps the images within their budget.
func (n *Node) collectImages(ctx context.Context) {
	if n.cfg.ImageBudget == 0 {
		return
	}
	for pause(ctx, n.time.Images) {
		if err := n.images.collect(ctx); err != nil && ctx.Err() == nil {
			n.cfg.Log.Warn("images not collected", "err", err)
		}
	}
}

// busyImages are the images of attempts that the node holds.
func (n *Node) busyImages() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	busy := map[string]bool{}
	for _, a := range n.attempts {
		busy[a.spec.Image] = true
	}
	return busy
}

// tellPull returns what reports the progress of an attempt's pull to those who
// wait for the task.
func (n *Node) tellPull(a *attempt) func(runtime.PullProgress) {
	var mu sync.Mutex
	var last time.Time
	return func(p runtime.PullProgress) {
		mu.Lock()
		defer mu.Unlock()
		now := n.cfg.Now()
		if now.Sub(last) < n.time.Progress {
			return
		}
		last = now
		n.cfg.Link.Progress(functions.Progress{
			Task: a.key.task, Attempt: a.key.attempt, Phase: functions.PhasePull, Stage: "pull", At: now,
			Message: clip(fmt.Sprintf("pulling %s: %s of %s, %d of %d layers", a.spec.Image, p.Done, p.Total, p.Layers, p.Of), longestWord),
		})
	}
}
