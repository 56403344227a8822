package tasklog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// reader reads a stream in order, for ever. It pulls by hand: the client
// library's iterators now and then forget to pull until a timer wakes them. All
// state belongs to the one goroutine that runs it, so no wake-up can be lost.
//
// Whatever looks wrong, a lost connection, a restarted server, silence, a
// message out of order, has one cure: a fresh consumer from the next sequence.
// Only what a fresh consumer shows is believed to be the state of the stream.
type reader struct {
	log        *Log
	stream     string
	contiguous bool // a missing sequence is an error
	next       uint64

	consumer string
	messages chan *nats.Msg
	inbox    string
	asked    int  // messages that the server still owes us
	fresh    bool // nothing was read since the last consumer was made
	silence  *time.Timer
}

// message is one stored message.
type message struct {
	seq     uint64
	subject string
	data    []byte
}

// errAgain asks for a fresh consumer.
var errAgain = errors.New("the reader must start again")

// run hands over messages until ctx ends, handle fails, or the stream turns out
// not to be the continuation of what was read.
func (r *reader) run(ctx context.Context, handle func(context.Context, []message) error) error {
	r.silence = time.NewTimer(pullSilence)
	defer r.silence.Stop()
	const firstWait, longestWait = 20 * time.Millisecond, time.Second
	wait := firstWait
	for ctx.Err() == nil {
		before := r.next
		err := r.runOnce(ctx, handle)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrConnectionClosed):
			return errClosed()
		case !errors.Is(err, errAgain):
			return err
		}
		r.log.log.Debug("reader starts again", "stream", r.stream, "next", r.next, "err", err)
		if r.next != before {
			wait = firstWait
		}
		if !functions.Sleep(ctx, wait) {
			return nil
		}
		wait = min(2*wait, longestWait)
	}
	return nil
}

func (r *reader) runOnce(ctx context.Context, handle func(context.Context, []message) error) error {
	again := r.log.reconnect()
	r.messages = make(chan *nats.Msg, 4*pullBatch)
	r.inbox = r.log.nc.NewInbox()
	sub, err := r.log.nc.ChanSubscribe(r.inbox, r.messages)
	if err != nil {
		return errors.Join(errAgain, err)
	}
	defer sub.Unsubscribe()
	if err := r.open(ctx); err != nil {
		return err
	}
	defer r.release(ctx)

	r.asked, r.fresh = 0, true
	for {
		if err := r.ask(); err != nil {
			return err
		}
		r.silence.Reset(pullSilence)
		select {
		case m := <-r.messages:
			batch, err := r.collect(m)
			if len(batch) > 0 { // what came before a fault is good
				if err := handle(ctx, batch); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
		case <-again:
			return fmt.Errorf("%w: reconnected", errAgain)
		case <-r.silence.C:
			return fmt.Errorf("%w: no heartbeat", errAgain)
		case <-r.log.stop:
			return errClosed()
		case <-ctx.Done():
			return nil
		}
	}
}

// open checks the stream and makes a consumer of it.
func (r *reader) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := r.check(ctx); err != nil {
		return err
	}
	return r.consume(ctx)
}

// check compares the stream with what was read of it.
func (r *reader) check(ctx context.Context) error {
	info, err := r.log.streamInfo(ctx, r.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("read %s: %w: the stream does not exist", r.stream, ErrGap)
	}
	if err != nil {
		return errors.Join(errAgain, err)
	}
	switch s := info.State; {
	case s.LastSeq+1 < r.next:
		return fmt.Errorf("read %s: %w: expected %d to be next, but it ends with %d", r.stream, ErrGap, r.next, s.LastSeq)
	case r.contiguous && s.FirstSeq > r.next:
		return fmt.Errorf("read %s: %w: expected %d to be next, but it begins with %d", r.stream, ErrGap, r.next, s.FirstSeq)
	}
	return nil
}

func (r *reader) consume(ctx context.Context) error {
	c, err := r.log.js.CreateConsumer(ctx, r.stream, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: pullExpires,
	})
	if err != nil {
		return errors.Join(errAgain, err)
	}
	r.consumer = c.CachedInfo().Name
	return nil
}

// release spares the server a consumer that it would drop by itself later.
func (r *reader) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	if r.log.nc.IsConnected() {
		_ = r.log.js.DeleteConsumer(ctx, r.stream, r.consumer)
	}
}

// ask keeps at least half a batch on its way.
func (r *reader) ask() error {
	if r.asked > pullBatch/2 {
		return nil
	}
	req, err := json.Marshal(struct {
		Batch     int           `json:"batch"`
		MaxBytes  int           `json:"max_bytes"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{pullBatch, pullBytes, pullExpires, pullHeartbeat})
	if err != nil {
		return err
	}
	subject := "$JS.API.CONSUMER.MSG.NEXT." + r.stream + "." + r.consumer
	if err := r.log.nc.PublishRequest(subject, r.inbox, req); err != nil {
		return errors.Join(errAgain, err)
	}
	r.asked += pullBatch
	return nil
}

// collect returns m and what else has arrived.
func (r *reader) collect(m *nats.Msg) ([]message, error) {
	const most = 1024
	var batch []message
	for {
		msg, err := r.take(m)
		if err != nil {
			return batch, err
		}
		if msg.seq != 0 {
			batch = append(batch, msg)
		}
		if len(batch) == most {
			return batch, nil
		}
		select {
		case m = <-r.messages:
		default:
			return batch, nil
		}
	}
}

// take reads one answer; the zero message means that it was only a status.
func (r *reader) take(m *nats.Msg) (message, error) {
	if status := m.Header.Get("Status"); status != "" && len(m.Data) == 0 {
		return message{}, r.status(status, m.Header)
	}
	meta, err := m.Metadata()
	if err != nil {
		return message{}, errors.Join(errAgain, err)
	}
	r.asked--
	seq := meta.Sequence.Stream
	if r.contiguous && seq != r.next || seq < r.next {
		if r.fresh && r.contiguous && seq > r.next {
			return message{}, fmt.Errorf("read %s: %w: expected %d to be next, got %d", r.stream, ErrGap, r.next, seq)
		}
		return message{}, fmt.Errorf("%w: expected %d, got %d", errAgain, r.next, seq)
	}
	r.next, r.fresh = seq+1, false
	return message{seq: seq, subject: m.Subject, data: m.Data}, nil
}

// status handles an answer without a message: a heartbeat, the end of a pull
// with what is left of it, or the end of the consumer.
func (r *reader) status(code string, h nats.Header) error {
	switch code {
	case "100":
		return nil
	case "408", "409":
		left, err := strconv.Atoi(h.Get("Nats-Pending-Messages"))
		if err == nil && h.Get("Description") != "Server Shutdown" {
			r.asked -= left
			return nil
		}
	}
	return fmt.Errorf("%w: %s %s", errAgain, code, h.Get("Description"))
}
