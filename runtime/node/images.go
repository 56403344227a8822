package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

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

func imagesFile(dataDir string) string { return filepath.Join(dataDir, "images.json") }

func newPulled(cfg Config, busy func() map[string]bool) *pulled {
	return &pulled{
		driver: cfg.Driver, file: imagesFile(cfg.DataDir), budget: cfg.ImageBudget,
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
			Message: clip(PullMessage(a.spec.Image, p), longestWord),
		})
	}
}

// PullMessage is the progress of a pull in words.
func PullMessage(image string, p runtime.PullProgress) string {
	return fmt.Sprintf("pulling %s: %s of %s, %d of %d layers", image, p.Done, p.Total, p.Layers, p.Of)
}

// ImageUses is when the node of a data folder last used each image that it has
// pulled, by the image's ID.
func ImageUses(dataDir string) (map[string]time.Time, error) {
	images := map[string]imageUse{}
	if _, err := readJSON(imagesFile(dataDir), &images); err != nil {
		return nil, err
	}
	uses := map[string]time.Time{}
	for _, use := range images {
		if use.Used.After(uses[use.ID]) {
			uses[use.ID] = use.Used
		}
	}
	return uses, nil
}
