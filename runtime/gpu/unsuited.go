package gpu

import (
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// unsuitedFor is how long an image is taken not to run here. Tags move: what was
	// wrong yesterday may be right today.
	unsuitedFor = 24 * time.Hour
	// unsuitedMost bounds what each heartbeat carries.
	unsuitedMost = 64
)

// unsuited is an image that does not run with a version of the driver.
type unsuited struct {
	functions.UnsuitedImage
	driver string
}

// Remember notes that an image does not run on the GPUs of this node, for a day or
// until the driver changes.
func (p *Pool) Remember(image, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.unsuited = slices.DeleteFunc(p.unsuited, func(u unsuited) bool { return u.Image == image || !p.current(u, now) })
	p.unsuited = append(p.unsuited, unsuited{functions.UnsuitedImage{Image: image, Reason: reason, Until: now.Add(unsuitedFor)}, p.driver.version})
	p.unsuited = p.unsuited[max(0, len(p.unsuited)-unsuitedMost):]
}

// Unsuited reports whether an image is known not to run here, and why.
func (p *Pool) Unsuited(image string) (reason string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.images(p.now()) {
		if u.Image == image {
			return u.Reason, true
		}
	}
	return "", false
}

// images lists what is unsuited now, by name.
func (p *Pool) images(now time.Time) []functions.UnsuitedImage {
	var out []functions.UnsuitedImage
	for _, u := range p.unsuited {
		if p.current(u, now) {
			out = append(out, u.UnsuitedImage)
		}
	}
	slices.SortFunc(out, func(a, b functions.UnsuitedImage) int { return strings.Compare(a.Image, b.Image) })
	return out
}

func (p *Pool) current(u unsuited, now time.Time) bool {
	return u.driver == p.driver.version && now.Before(u.Until)
}
