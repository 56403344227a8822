package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var faults = flag.Int("faults", 8, "how many faults each ingest test makes")

// fault breaks something of a rig for about a time, and heals it.
type fault struct {
	name string
	do   func(ctx context.Context, r *rig, d time.Duration) error
}

var (
	killServer = fault{"server killed", func(ctx context.Context, r *rig, d time.Duration) error {
		r.srv.Kill()
		wait(ctx, d)
		return r.srv.Restart(ctx)
	}}
	killStore = fault{"store killed", func(ctx context.Context, r *rig, d time.Duration) error {
		r.store.Kill()
		wait(ctx, d)
		return r.store.Restart(ctx)
	}}
	killBoth = fault{"both killed", func(ctx context.Context, r *rig, d time.Duration) error {
		r.store.Kill()
		r.srv.Kill()
		wait(ctx, d)
		return errors.Join(r.store.Restart(ctx), r.srv.Restart(ctx))
	}}
)

// hookFault has the proxy do something for a while.
func hookFault(mode hookMode) fault {
	return fault{"hooks " + string(mode), func(ctx context.Context, r *rig, d time.Duration) error {
		if err := r.hooks.set(mode); err != nil {
			return err
		}
		wait(ctx, d)
		return r.hooks.set(hooksMix)
	}}
}

// cutFault pulls the cable between two parties for a while.
func cutFault(a, b string) fault {
	return fault{"cut " + a + " from " + b, func(ctx context.Context, r *rig, d time.Duration) error {
		if err := r.net.Cut(a, b); err != nil {
			return err
		}
		wait(ctx, d)
		return r.net.Mend(a, b)
	}}
}

// TestIngestLosesNothing breaks things at random moments while programs put
// objects into watched buckets and files through presigned uploads. When all is
// healed, every object that the store holds has run in one task, no more and no
// less, and what was acknowledged is there.
func TestIngestLosesNothing(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("replay with -args -seed %d", *seed)
	for _, c := range []struct {
		name   string
		rig    rigOptions
		faults []fault
	}{
		{"embedded store", rigOptions{}, []fault{killServer}},
		{"MinIO", rigOptions{minio: true}, []fault{
			killServer, killStore, killBoth, hookFault(hooksAbsent), hookFault(hooksFail), hookFault(hooksHold), hookFault(hooksBreak),
		}},
		{"MinIO over cables", rigOptions{minio: true, cable: true}, []fault{
			cutFault("minio", "server"), cutFault("clients", "minio"), cutFault("clients", "server"), killServer, killStore,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of the time they wait: an upload that nobody reported is looked for after a minute
			c.rig.seed = *seed
			r := newRig(t, c.rig)
			if r.hooks != nil {
				if err := r.hooks.set(hooksMix); err != nil {
					t.Fatal(err)
				}
			}
			l := newPuts()
			load, stop := context.WithCancel(t.Context())
			defer stop()
			var wg sync.WaitGroup
			for n := range 4 {
				w := &writer{rig: r, log: l, rng: rand.New(rand.NewPCG(*seed, uint64(n))), name: fmt.Sprintf("w%d", n)}
				wg.Go(func() { w.run(load) })
			}
			done, err := breakThings(t, r, c.faults, rand.New(rand.NewPCG(*seed, 99)))
			stop()
			wg.Wait()
			t.Logf("faults %v", done)
			if err != nil {
				t.Fatal(err)
			}
			if r.hooks != nil {
				t.Logf("reports from the store: %d", len(r.hooks.recorded()))
			}
			r.verify(t, l)
		})
	}
}

// breakThings makes the faults, each kind at least once when there are enough
// of them, and returns how many of each it made.
func breakThings(t *testing.T, r *rig, kinds []fault, rng *rand.Rand) (done map[string]int, err error) {
	done = map[string]int{}
	order := rng.Perm(len(kinds))
	for n := range *faults {
		pause(t, time.Duration(200+rng.IntN(1300))*time.Millisecond)
		f := kinds[rng.IntN(len(kinds))]
		if n < len(order) {
			f = kinds[order[n]]
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("not healed within a minute"))
		err := f.do(ctx, r, time.Duration(rng.IntN(1500))*time.Millisecond)
		cancel()
		if err != nil {
			return done, fmt.Errorf("%s: %w", f.name, err)
		}
		done[f.name]++
	}
	pause(t, time.Second)
	return done, nil
}
