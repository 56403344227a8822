package tasklog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nuid"

	"github.com/spillway/spillway/functions"
)

// Projection is what an election needs of the reader of the log.
type Projection interface {
	WaitApplied(ctx context.Context, seq uint64) error // until the message seq is applied
	Epoch() uint64                                     // sequence of the newest leader event applied
}

// Lead takes part in the election as id until ctx ends, and returns nil then.
// Each time it wins it runs term with the new epoch; term's context ends when
// the lease is lost or a newer leader is seen, and term must return then. When
// term returns by itself the leader steps down and stands again. p must be fed
// by a Tail meanwhile.
//
// At most one epoch is valid at a time whatever happens here: every decision
// carries its epoch, and the log itself says which is the newest.
func (l *Log) Lead(ctx context.Context, id string, p Projection, term func(ctx context.Context, epoch uint64) error) error {
	if err := functions.NodeID(id).Validate(); err != nil {
		return fmt.Errorf("stand for election: %w", err)
	}
	for ctx.Err() == nil {
		s := &lease{log: l, self: holder{ID: id, Token: nuid.Next()}}
		var err error
		if s.value, err = json.Marshal(s.self); err != nil {
			return fmt.Errorf("stand for election: %w", err)
		}
		stop, err := s.answer() // before the lease is held: its holder must be reachable
		if err != nil {
			return fmt.Errorf("stand for election: %w", errLog(err))
		}
		if s.campaign(ctx) {
			err := l.serve(ctx, s, p, term)
			l.log.Info("leader steps down", "id", id, "err", err)
		}
		stop()
		functions.Sleep(ctx, l.timing.renew) // lets another have it
	}
	return nil
}

// serve leads for as long as lease s is held.
func (l *Log) serve(ctx context.Context, s *lease, p Projection, term func(context.Context, uint64) error) error {
	ctx, lose := context.WithCancelCause(ctx)
	epoch := make(chan uint64, 1)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		lose(l.keep(ctx, s, p, epoch))
	}()
	err := l.begin(ctx, s, p, epoch, term)
	cause := context.Cause(ctx)
	lose(nil)
	<-kept
	if !errors.Is(cause, errLost) {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
		defer cancel()
		if rerr := s.release(rctx); rerr != nil {
			l.log.Debug("lease not released", "err", rerr)
		}
	}
	if cause != nil {
		return cause
	}
	return err
}

// begin writes the leader's record, waits until this server has read it back as
// the newest, and runs the term.
func (l *Log) begin(ctx context.Context, s *lease, p Projection, epoch chan<- uint64, term func(context.Context, uint64) error) error {
	seq, err := l.Append(ctx, "ldr-"+s.self.Token, functions.Event{
		Kind: functions.Lead, At: time.Now().UTC(), Ldr: &functions.Leader{ID: s.self.ID},
	})
	if err != nil {
		return err
	}
	if err := p.WaitApplied(ctx, seq); err != nil {
		return fmt.Errorf("wait for the projection: %w", err)
	}
	if p.Epoch() != seq {
		return errLost
	}
	epoch <- seq
	l.log.Info("leader begins", "id", s.self.ID, "epoch", seq)
	return term(ctx, seq)
}

// keep renews the lease until ctx ends or the lease is lost, and says why. It
// never lets the lease end while the term runs: it gives up a margin before.
func (l *Log) keep(ctx context.Context, s *lease, p Projection, epoch <-chan uint64) error {
	end := func() time.Duration { return time.Until(s.until) - l.timing.margin }
	deadline := time.NewTimer(end())
	defer deadline.Stop()
	renew := time.NewTicker(l.timing.renew)
	defer renew.Stop()
	look := time.NewTicker(l.timing.renew / 10)
	defer look.Stop()
	var own uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-deadline.C:
			return fmt.Errorf("%w: it could not be renewed in time", errLost)
		case own = <-epoch:
		case <-look.C:
			if e := p.Epoch(); own != 0 && e > own {
				return fmt.Errorf("%w: epoch %d is newer", errLost, e)
			}
		case <-renew.C:
			// A renewal gets no longer than the lease has left.
			rctx, cancel := context.WithTimeout(ctx, min(publishTimeout, max(end(), 0)))
			err := s.renew(rctx)
			cancel()
			switch {
			case err == nil:
				deadline.Reset(end())
			case errors.Is(err, errLost):
				return err
			case ctx.Err() == nil:
				l.log.Warn("lease not renewed", "err", err)
			}
		}
	}
}
