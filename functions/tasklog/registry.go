package tasklog

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// Registry holds the deployed functions. Each version is a key <name>.<n> that
// never changes; <name>.latest points at the one in force. Reads come from a
// cache that Run keeps fresh; before its first reading of everything they
// return ErrUnavailable.
type Registry struct {
	log   *Log
	kv    jetstream.KeyValue
	ready chan struct{} // closed after the first reading

	mu        sync.RWMutex // guards the fields below
	functions map[functions.Name]*deployed
	read      bool // ready is closed
}

// deployed is what the cache knows of one name.
type deployed struct {
	pointer  pointer
	rev      uint64 // of the pointer
	versions map[int]functions.Function
}

// pointer is the value of <name>.latest. A deleted function keeps its pointer,
// so that its numbers are never given again.
type pointer struct {
	Version int  `json:"version"`
	Deleted bool `json:"deleted,omitempty"`
}

const latestKey = "latest"

// Registry makes the bucket if it is missing. The caller runs the registry.
func (l *Log) Registry(ctx context.Context) (*Registry, error) {
	kv, err := l.bucket(ctx, functionsConfig(l.replicas))
	if err != nil {
		return nil, fmt.Errorf("open the function registry: %w", errLog(err))
	}
	return &Registry{log: l, kv: kv, ready: make(chan struct{}), functions: map[functions.Name]*deployed{}}, nil
}

// Ready is closed once Run has read every function.
func (r *Registry) Ready() <-chan struct{} { return r.ready }

// Run follows the bucket until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	info, err := r.log.streamInfo(ctx, bucketStream)
	if err != nil {
		return fmt.Errorf("read the function registry: %w", errLog(err))
	}
	last := info.State.LastSeq
	if last == 0 {
		r.setReady()
	}
	rd := &reader{log: r.log, stream: bucketStream, next: 1}
	return rd.run(ctx, func(_ context.Context, messages []message) error {
		for _, m := range messages {
			if err := r.apply(strings.TrimPrefix(m.subject, bucketPrefix), m.data, m.seq); err != nil {
				r.log.log.Error("unreadable entry in the function registry", "seq", m.seq, "err", err)
			}
			if m.seq >= last {
				r.setReady()
			}
		}
		return nil
	})
}

const (
	bucketStream = "KV_" + functionBucket
	bucketPrefix = "$KV." + functionBucket + "."
)

func (r *Registry) setReady() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.read {
		r.read = true
		close(r.ready)
	}
}

// apply takes one key into the cache. An older pointer than the cached one is
// dropped: a deploy of this server enters the cache before the reader sees it.
func (r *Registry) apply(key string, value []byte, rev uint64) error {
	name, what, _ := strings.Cut(key, ".")
	n, err := strconv.Atoi(what)
	isPointer := what == latestKey
	if err != nil && !isPointer {
		return fmt.Errorf("key %q is neither a version nor a pointer", key)
	}
	var p pointer
	var f functions.Function
	if isPointer {
		err = json.Unmarshal(value, &p)
	} else {
		err = json.Unmarshal(value, &f)
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.functions[functions.Name(name)]
	if d == nil {
		d = &deployed{versions: map[int]functions.Function{}}
		r.functions[functions.Name(name)] = d
	}
	switch {
	case !isPointer:
		d.versions[n] = f
	case rev > d.rev:
		d.pointer, d.rev = p, rev
	}
	return nil
}

// Latest returns the version in force, or ErrNotFound when there is none.
func (r *Registry) Latest(name functions.Name) (functions.Function, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.read {
		return functions.Function{}, errStarting()
	}
	if d := r.functions[name]; d != nil && d.live() {
		return d.versions[d.pointer.Version], nil
	}
	return functions.Function{}, functions.NotFound("no_function", "there is no function %q", name).
		WithHint("list the functions to see which there are, or deploy it")
}

// live reports that a version is in force and known.
func (d *deployed) live() bool {
	_, ok := d.versions[d.pointer.Version]
	return ok && !d.pointer.Deleted
}

// Version returns version v, of a deleted function too: tasks may still wait
// that were accepted for it.
func (r *Registry) Version(name functions.Name, v int) (functions.Function, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.read {
		return functions.Function{}, errStarting()
	}
	if d := r.functions[name]; d != nil {
		if f, ok := d.versions[v]; ok {
			return f, nil
		}
	}
	return functions.Function{}, functions.NotFound("no_version", "function %q has no version %d", name, v)
}

// Versions returns every version of name that was ever in force, oldest first;
// none when the name is unknown.
func (r *Registry) Versions(name functions.Name) []functions.Function {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d := r.functions[name]
	if d == nil {
		return nil
	}
	var all []functions.Function
	for v, f := range d.versions {
		if v <= d.pointer.Version {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b functions.Function) int { return cmp.Compare(a.Version, b.Version) })
	return all
}

// List returns the version in force of every function, by name.
func (r *Registry) List() []functions.Function {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []functions.Function
	for _, d := range r.functions {
		if d.live() {
			all = append(all, d.versions[d.pointer.Version])
		}
	}
	slices.SortFunc(all, func(a, b functions.Function) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func errStarting() error {
	return functions.Unavailable("starting", "the function registry is not read yet").WithHint("try again in a second")
}
