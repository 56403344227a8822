// Package sqs receives the events that AWS sends to a queue when objects are
// stored in a bucket.
//
// A message lives like this: a long poll brings it and hides it from others for
// a while; it is handed to Config.Take, and the while is prolonged for as long as
// that lasts; only when it has returned without an error, which means that the
// log holds what the message starts, is the message deleted. Any other comes
// again by itself, also after a crash, and the task's key makes sure that the
// second time starts nothing new. What fails again and again is left to the
// queue's redrive policy.
package sqs

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/spillway/spillway/functions"
)

// Limits of the service, and what suits them.
const (
	pollSeconds = 20 // the longest poll
	atOnce      = 10 // the most messages of one poll
	firstWait   = time.Second
	longestWait = time.Minute
)

// Config says which queue to read and who takes its messages.
type Config struct {
	URL      string // of the queue
	Region   string // empty = as the environment says, else the one in URL
	Endpoint string // where the service answers; empty = AWS

	// Take makes tasks of what a message reports. When it returns nil, they are
	// durable.
	Take func(ctx context.Context, body []byte) error
	// Trouble hears that the queue cannot be read; nil = nobody does.
	Trouble func(err error)

	Visibility time.Duration // how long a message is hidden while it is taken; prolonged in time; 0 = one minute
	Logger     *slog.Logger  // nil = silent
}

// Queue reads one queue.
type Queue struct {
	cfg Config
	log *slog.Logger
}

// New returns a Queue. It starts nothing. Credentials are found as AWS's own
// tools find them: environment, shared files, container, instance.
func New(cfg Config) (*Queue, error) {
	if u, err := url.Parse(cfg.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, functions.Invalid("bad_queue", "%.200q is not the URL of a queue", cfg.URL).
			WithHint("it is like https://sqs.eu-west-1.amazonaws.com/123456789012/uploads")
	}
	if cfg.Visibility == 0 {
		cfg.Visibility = time.Minute
	}
	if cfg.Trouble == nil {
		cfg.Trouble = func(error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Queue{cfg: cfg, log: cfg.Logger.With("queue", cfg.URL)}, nil
}

// Run receives until ctx ends, and returns nil then. While the queue cannot be
// read it tries again, ever slower.
func (q *Queue) Run(ctx context.Context) error {
	var client *sqs.Client
	wait := firstWait
	for ctx.Err() == nil {
		err := error(nil)
		if client == nil {
			client, err = q.connect(ctx)
		}
		if err == nil {
			err = q.poll(ctx, client)
		}
		if err == nil {
			wait = firstWait
			continue
		}
		if ctx.Err() != nil {
			break
		}
		q.log.Warn("queue not read", "err", err, "again_in", wait)
		q.cfg.Trouble(err)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		wait = min(2*wait, longestWait)
	}
	return nil
}

func (q *Queue) connect(ctx context.Context) (*sqs.Client, error) {
	var opts []func(*config.LoadOptions) error
	if q.cfg.Region != "" {
		opts = append(opts, config.WithRegion(q.cfg.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("find AWS credentials: %w", err)
	}
	if cfg.Region == "" {
		cfg.Region = regionOf(q.cfg.URL)
	}
	return sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		if q.cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(q.cfg.Endpoint)
		}
	}), nil
}

// poll receives once and handles what came. An error is the receiving's own.
func (q *Queue) poll(ctx context.Context, client *sqs.Client) error {
	out, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &q.cfg.URL, WaitTimeSeconds: pollSeconds, MaxNumberOfMessages: atOnce, VisibilityTimeout: q.visibility(),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameApproximateReceiveCount},
	})
	if err != nil {
		return fmt.Errorf("receive from the queue: %w", err)
	}
	var wg sync.WaitGroup
	for _, m := range out.Messages {
		wg.Go(func() { q.handle(ctx, client, m) })
	}
	wg.Wait()
	return nil
}

// handle takes one message and deletes it. A message that is not taken, or not
// deleted, comes again.
func (q *Queue) handle(ctx context.Context, client *sqs.Client, m types.Message) {
	log := q.log.With("message", aws.ToString(m.MessageId))
	if err := q.take(ctx, client, m); err != nil {
		if ctx.Err() == nil {
			log.Warn("message not taken in; it comes again, or goes to the queue's dead letters",
				"received", m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)], "err", err)
		}
		return
	}
	_, err := client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &q.cfg.URL, ReceiptHandle: m.ReceiptHandle})
	if err != nil && ctx.Err() == nil {
		log.Warn("message not deleted; it comes again", "err", err)
	}
}

// take hands the message on, and keeps it hidden meanwhile.
func (q *Queue) take(ctx context.Context, client *sqs.Client, m types.Message) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		tick := time.NewTicker(q.cfg.Visibility / 3)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			_, err := client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
				QueueUrl: &q.cfg.URL, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: q.visibility(),
			})
			if err != nil && ctx.Err() == nil {
				q.log.Warn("message not kept hidden", "message", aws.ToString(m.MessageId), "err", err)
			}
		}
	})
	return q.cfg.Take(ctx, []byte(aws.ToString(m.Body)))
}

// visibility is in whole seconds, the service knows no other.
func (q *Queue) visibility() int32 { return max(1, int32(q.cfg.Visibility/time.Second)) }
