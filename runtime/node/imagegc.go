package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// rested is how long an image was not used before it may go.
const rested = time.Hour

// collect removes images until those that the node has pulled fit their budget,
// and returns what they took.
func (p *pulled) collect(ctx context.Context) (freed functions.Bytes, err error) {
	p.mu.Lock()
	known := maps.Clone(p.images)
	p.mu.Unlock()
	if len(known) == 0 {
		return 0, nil
	}
	present, err := p.driver.Images(ctx)
	if err != nil {
		return 0, fmt.Errorf("list images: %w", err)
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
	for _, img := range surplus(all, p.budget, p.now()) {
		gone, removeErr := p.remove(ctx, img)
		if err = errors.Join(err, removeErr); gone {
			freed += img.size
		}
	}
	return freed, err
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

// remove removes one image, unless somebody uses it, and reports whether. Attempts that want it wait
// until it is gone, and pull it again.
func (p *pulled) remove(ctx context.Context, img ownImage) (gone bool, err error) {
	p.mu.Lock()
	if p.images[img.name] != img.imageUse || p.busy()[img.name] {
		p.mu.Unlock()
		return false, nil // used since
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
		return false, nil
	case err != nil && !errors.Is(err, functions.ErrNotFound):
		return false, fmt.Errorf("remove image %s: %w", img.name, err)
	case err == nil && now.ID == img.ID:
		gone = true
		p.log.Info("image removed to make room", "image", img.name, "size", img.size, "used", img.Used)
	}
	p.forget(img.name, img.imageUse) // gone, or another one, which somebody else has brought
	return gone, nil
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
	for functions.Sleep(ctx, n.time.Images) {
		if _, err := n.images.collect(ctx); err != nil && ctx.Err() == nil {
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

// CollectImages does once what a running agent does by itself, and returns what
// that frees. Of the configuration it needs the folder, the driver, the budget,
// the log and the clock. While an agent runs, it is ErrConflict.
func CollectImages(ctx context.Context, cfg Config) (functions.Bytes, error) {
	unlock, err := lockFolder(cfg.DataDir)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if cfg.ImageBudget == 0 {
		return 0, nil
	}
	p := newPulled(cfg, func() map[string]bool { return nil })
	p.open()
	return p.collect(ctx)
}
