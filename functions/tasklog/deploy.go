package tasklog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// Deploy makes spec, with its defaults, the version in force. When it is that
// already, the version is returned and created is false. Servers that deploy at
// once never overwrite a version: each becomes one, in some order.
//
// A version is made first and pointed at second. Who finds a version beyond the
// pointer moves the pointer to it, for the server that made it may have died.
func (r *Registry) Deploy(ctx context.Context, spec functions.Spec) (f functions.Function, created bool, err error) {
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		return f, false, err
	}
	want, err := json.Marshal(spec)
	if err != nil {
		return f, false, functions.Invalid("bad_spec", "the spec cannot be written as JSON").WithCause(err)
	}
	fail := func(err error) (functions.Function, bool, error) {
		return functions.Function{}, false, fmt.Errorf("deploy %s: %w", spec.Name, kvError(err))
	}
	for {
		p, rev, err := r.pointer(ctx, spec.Name)
		if err != nil {
			return fail(err)
		}
		if p.Version > 0 && !p.Deleted {
			f, _, same, err := r.version(ctx, spec.Name, p.Version, want)
			if err != nil {
				return fail(err)
			}
			if same {
				r.learn(spec.Name, p, rev)
				return f, false, nil
			}
		}
		f = functions.Function{Spec: spec, Version: p.Version + 1, CreatedAt: time.Now().UTC()}
		mine, err := r.create(ctx, f)
		if err != nil {
			return fail(err)
		}
		if !mine {
			_, found, _, err := r.version(ctx, spec.Name, f.Version, want)
			if err != nil {
				return fail(err)
			}
			if !found {
				continue
			}
		}
		if err := r.advance(ctx, spec.Name, pointer{Version: f.Version}, rev); err != nil {
			return fail(err)
		}
		if mine {
			return f, true, nil
		}
	}
}

// Delete takes the function out of force. Its versions stay readable, and their
// numbers are not given again.
func (r *Registry) Delete(ctx context.Context, name functions.Name) error {
	if err := name.Validate(); err != nil {
		return err
	}
	for {
		p, rev, err := r.pointer(ctx, name)
		if err != nil {
			return fmt.Errorf("delete %s: %w", name, kvError(err))
		}
		if p.Version == 0 || p.Deleted {
			return functions.NotFound("no_function", "there is no function %q", name)
		}
		p.Deleted = true
		done, err := r.point(ctx, name, p, rev)
		if err != nil {
			return fmt.Errorf("delete %s: %w", name, kvError(err))
		}
		if done {
			return nil
		}
	}
}

// pointer reads the pointer of name from the bucket; zero when there is none.
func (r *Registry) pointer(ctx context.Context, name functions.Name) (p pointer, rev uint64, err error) {
	e, err := r.kv.Get(ctx, string(name)+"."+latestKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return p, 0, nil
	}
	if err != nil {
		return p, 0, err
	}
	if err := json.Unmarshal(e.Value(), &p); err != nil {
		return p, 0, fmt.Errorf("read pointer: %w", err)
	}
	return p, e.Revision(), nil
}

// version reads one version and says whether its spec is want.
func (r *Registry) version(ctx context.Context, name functions.Name, v int, want []byte) (f functions.Function, found, same bool, err error) {
	key := string(name) + "." + strconv.Itoa(v)
	e, err := r.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return f, false, false, nil
	}
	if err != nil {
		return f, false, false, err
	}
	if err := json.Unmarshal(e.Value(), &f); err != nil {
		return f, false, false, fmt.Errorf("read version %d: %w", v, err)
	}
	have, err := json.Marshal(f.Spec)
	if err != nil {
		return f, false, false, err
	}
	return f, true, bytes.Equal(have, want), r.apply(key, e.Value(), e.Revision())
}

// learn notes a pointer that was read from the bucket, whose version is in the
// cache: Run may not have come to it yet.
func (r *Registry) learn(name functions.Name, p pointer, rev uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.functions[name]; rev > d.rev {
		d.pointer, d.rev = p, rev
	}
}

// create writes a version; false when it exists.
func (r *Registry) create(ctx context.Context, f functions.Function) (bool, error) {
	value, err := json.Marshal(f)
	if err != nil {
		return false, err
	}
	key := string(f.Name) + "." + strconv.Itoa(f.Version)
	rev, err := r.kv.Create(ctx, key, value)
	if err != nil {
		if conflicted(err) {
			return false, nil
		}
		return false, err
	}
	return true, r.apply(key, value, rev)
}

// advance moves the pointer from revision rev to p, or leaves it where another
// server has moved it at least as far.
func (r *Registry) advance(ctx context.Context, name functions.Name, p pointer, rev uint64) error {
	for {
		done, err := r.point(ctx, name, p, rev)
		if done || err != nil {
			return err
		}
		var now pointer
		if now, rev, err = r.pointer(ctx, name); err != nil || now.Version >= p.Version {
			return err
		}
	}
}

// point is one compare-and-set of the pointer; false when it lost.
func (r *Registry) point(ctx context.Context, name functions.Name, p pointer, rev uint64) (bool, error) {
	value, err := json.Marshal(p)
	if err != nil {
		return false, err
	}
	key := string(name) + "." + latestKey
	rev, err = r.kv.Update(ctx, key, value, rev) // revision 0: must not exist
	if err != nil {
		if conflicted(err) {
			return false, nil
		}
		return false, err
	}
	return true, r.apply(key, value, rev)
}

func kvError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(err, errLog(err))
	}
	if retry, final := publishError(err); !retry {
		return final
	}
	return errLog(err)
}
