package tasklog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// lease is the right to campaign for leadership: one key in memory that ends by
// itself. It only keeps servers from displacing each other; what makes a
// leader's decisions valid is its epoch.
type lease struct {
	log   *Log
	self  holder
	value []byte // self as stored
	rev   uint64 // of the key, while held
	until time.Time
	kv    jetstream.KeyValue // nil = to be looked up
}

// holder is the value of the key. The token is new for each campaign of each
// process, so that a restarted server does not answer for its former life.
type holder struct {
	ID    string `json:"id"`
	Token string `json:"token"`
}

// errLost says that another holds the lease.
var errLost = errors.New("the lease is lost")

// bucket makes the bucket when it is missing, as it is after each restart of a
// single server: it lives in memory.
func (s *lease) bucket(ctx context.Context) (err error) {
	if s.kv == nil {
		s.kv, err = s.log.js.CreateOrUpdateKeyValue(ctx, leaseConfig(s.log.replicas))
	}
	return err
}

// create takes the lease if it is free; errLost when it is not.
func (s *lease) create(ctx context.Context) error {
	sent := time.Now()
	rev, err := s.kv.Create(ctx, leaseKey, s.value, jetstream.KeyTTL(s.log.timing.ttl))
	return s.settle(sent, rev, err)
}

// renew prolongs the lease, counted from when the request is sent.
func (s *lease) renew(ctx context.Context) error {
	if err := s.bucket(ctx); err != nil {
		return err
	}
	sent := time.Now()
	rev, err := s.update(ctx)
	switch {
	case err != nil && conflicted(err):
		return s.recover(ctx)
	case err != nil && missing(err):
		s.kv = nil // made anew by the next renewal
	}
	return s.settle(sent, rev, err)
}

// recover finds out why the key is not at the revision we know. An answer may
// have been lost, then the newer revision is our own; or the bucket vanished
// with a restart of the server, then the lease is free.
func (s *lease) recover(ctx context.Context) error {
	e, err := s.kv.Get(ctx, leaseKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return s.create(ctx)
	case err != nil:
		return err
	case string(e.Value()) != string(s.value):
		return errLost
	}
	s.rev = e.Revision()
	sent := time.Now()
	rev, err := s.update(ctx)
	return s.settle(sent, rev, err)
}

// update is a compare-and-set that gives the key a new TTL, which the library's
// Update cannot.
func (s *lease) update(ctx context.Context) (uint64, error) {
	ack, err := s.log.js.PublishMsg(ctx, &nats.Msg{Subject: "$KV." + leaseBucket + "." + leaseKey, Data: s.value},
		jetstream.WithExpectLastSequencePerSubject(s.rev), jetstream.WithMsgTTL(s.log.timing.ttl), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (s *lease) settle(sent time.Time, rev uint64, err error) error {
	if err == nil {
		s.rev, s.until = rev, sent.Add(s.log.timing.ttl)
		return nil
	}
	if conflicted(err) {
		return errLost
	}
	return err
}

// release frees the lease, so that another can lead at once. It never removes
// another's.
func (s *lease) release(ctx context.Context) error {
	if s.kv == nil {
		return nil // it is gone with its bucket
	}
	return s.remove(ctx, s.rev)
}

func (s *lease) remove(ctx context.Context, rev uint64) error {
	return s.kv.Delete(ctx, leaseKey, jetstream.LastRevision(rev))
}

// campaign takes the lease as soon as it can be had. It returns false when ctx
// ended. A holder that is not connected, twice in a row, is dead: its lease is
// taken away.
func (s *lease) campaign(ctx context.Context) bool {
	var dead uint64 // revision of the lease whose holder did not answer
	for ; ctx.Err() == nil; functions.Sleep(ctx, s.log.timing.poll) {
		var err error
		if dead, err = s.attempt(ctx, dead); err == nil {
			return true
		}
		if !errors.Is(err, errLost) {
			s.kv = nil
			s.log.log.Debug("cannot campaign", "err", err)
		}
	}
	return false
}

func (s *lease) attempt(ctx context.Context, dead uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := s.bucket(ctx); err != nil {
		return 0, err
	}
	e, err := s.kv.Get(ctx, leaseKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, s.create(ctx)
	}
	if err != nil {
		return 0, err
	}
	var h holder
	if err := json.Unmarshal(e.Value(), &h); err != nil {
		return 0, fmt.Errorf("read lease: %w", err)
	}
	if h == s.self { // an earlier create whose answer was lost
		s.rev = e.Revision()
		return 0, s.renew(ctx)
	}
	switch {
	case s.reachable(ctx, h):
		return 0, errLost
	case dead != e.Revision():
		return e.Revision(), errLost
	}
	if err := s.remove(ctx, e.Revision()); err != nil {
		return 0, err
	}
	s.log.log.Info("lease of an unreachable leader taken", "holder", h.ID)
	return 0, s.create(ctx)
}

// reachable reports whether h is connected. One that does not answer is: it may
// be paused, and its lease will tell.
func (s *lease) reachable(ctx context.Context, h holder) bool {
	ctx, cancel := context.WithTimeout(ctx, s.log.timing.poll)
	defer cancel()
	_, err := s.log.nc.RequestWithContext(ctx, pingPrefix+h.Token, nil)
	return !errors.Is(err, nats.ErrNoResponders)
}

// answer replies to the pings of standbys until the returned function is called.
func (s *lease) answer() (stop func(), err error) {
	sub, err := s.log.nc.Subscribe(pingPrefix+s.self.Token, func(m *nats.Msg) { _ = m.Respond(nil) })
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
