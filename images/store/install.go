package store

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
)

// install unpacks what is missing of an image and makes it present.
func (s *Store) install(ctx context.Context, img manifest, names []string, report func(Progress)) (err error) {
	r := record{ID: img.id, Config: img.config.Config}
	var layers []*fetching
	for _, l := range slices.Backward(img.layers) {
		if !slices.Contains(r.Layers, l.diffID.Hex) { // a layer over itself changes nothing
			r.Layers = append(r.Layers, l.diffID.Hex)
			layers = append(layers, l)
		}
	}
	slices.Reverse(r.Layers)
	slices.Reverse(layers)
	release, err := s.claimLayers(r.Layers)
	if err != nil {
		return err
	}
	defer release()
	if err := s.fetchAll(ctx, layers, report); err != nil {
		return err
	}
	return s.commit(r, names)
}

func (s *Store) claimLayers(layers []string) (release func(), err error) {
	unlock, err := s.lock(shared)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var all []func()
	release = func() {
		for _, one := range all {
			one()
		}
	}
	for _, l := range layers {
		one, err := s.claim("layer-" + l)
		if err != nil {
			release()
			return nil, err
		}
		all = append(all, one)
	}
	return release, nil
}

// fetches is how many layers of one image come at the same time.
const fetches = 3

// fetchAll makes all layers present, several at a time.
func (s *Store) fetchAll(ctx context.Context, layers []*fetching, report func(Progress)) error {
	total := Progress{Of: len(layers)}
	for _, l := range layers {
		total.Total += l.size
	}
	if s.cfg.Budget > 0 && total.Total > s.cfg.Budget {
		return s.tooLarge() // before it has driven others out
	}
	sum := &sum{Progress: total, of: map[*fetching]functions.Bytes{}, report: report}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetches)
	for _, l := range layers {
		group.Go(func() error {
			err := s.share(ctx, l, sum)
			for errors.Is(err, context.Canceled) && ctx.Err() == nil {
				err = s.share(ctx, l, sum) // it was another pull's, which was given up
			}
			if err == nil {
				sum.complete(l)
			}
			return err
		})
	}
	return group.Wait()
}

// share fetches a layer together with other pulls that want it.
func (s *Store) share(ctx context.Context, l *fetching, sum *sum) error {
	return s.fetch.Do(ctx, l.diffID.Hex, func(done functions.Bytes) { sum.at(l, done) },
		func(ctx context.Context, report func(functions.Bytes)) error { return s.fetchLayer(ctx, l, report) })
}
