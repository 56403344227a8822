package tasklog

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// The streams and buckets.
const (
	streamName     = "TASKLOG"
	streamSubjects = "tl.>" // tl.sub.<fn> tl.sub tl.asg tl.rel tl.fin tl.ctl tl.ldr tl.mix
	functionBucket = "FUNCS"
	markBucket     = "MARKS"
	deliveryBucket = "DELIVERIES"
	lambdaBucket   = "LAMBDA"
	chainBucket    = "CHAINS"
	leaseBucket    = "LEASE"
	leaseKey       = "scheduler"
)

// Subjects that are not stored.
const (
	heartbeatSubject = "sched.hb"    // every server hears, the leader answers
	pingPrefix       = "sched.ping." // + holder's token: answered while it holds the lease
	progressPrefix   = "prog."       // + task
	logPrefix        = "log."        // + task . attempt
)

// Limits of a message. The server refuses payloads over maxPayload; a message
// of several events stays under maxBatchBytes so that no reader must take a
// large one for the sake of small events.
const (
	maxPayload    = 1 << 20
	maxEventBytes = 900 << 10
	maxBatchBytes = 512 << 10
	maxBatch      = 256 // events
)

// Times of the log. They follow measurements with embedded and three-server
// set-ups: a publish takes under 1 ms when all is well, and a cluster that
// elects a new leader is silent for 5 to 10 s, which every lease must outlive.
const (
	defaultMaxAge  = 8 * 24 * time.Hour // a week of history, and a day
	dedupeWindow   = 10 * time.Minute
	publishTimeout = time.Second
	callTimeout    = 5 * time.Second
	pingInterval   = 2 * time.Second // of the connection
	reconnectWait  = 100 * time.Millisecond
)

// Reading. A pull of fewer than 256 messages makes stalls likely; see reader.go.
const (
	pullBatch     = 512
	pullBytes     = 4 << 20
	pullExpires   = 30 * time.Second
	pullHeartbeat = 500 * time.Millisecond
	pullSilence   = 3 * pullHeartbeat // without a word: ask again
	tailEvents    = 4096              // handed over at once, about
)

// timing is how an election moves. Tests shorten it.
type timing struct {
	ttl    time.Duration // of the lease; whole seconds, the server knows no other
	renew  time.Duration
	margin time.Duration // the holder steps down this long before its lease ends
	poll   time.Duration // of a standby
}

var defaultTiming = timing{ttl: 10 * time.Second, renew: time.Second, margin: 200 * time.Millisecond, poll: 500 * time.Millisecond}

func logConfig(replicas int, maxAge time.Duration, maxBytes int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:       streamName,
		Subjects:   []string{streamSubjects},
		Retention:  jetstream.LimitsPolicy,
		Storage:    jetstream.FileStorage,
		Discard:    jetstream.DiscardNew, // full means refused, never forgotten
		DenyDelete: true,
		DenyPurge:  true,
		MaxAge:     maxAge,
		MaxBytes:   maxBytes,
		MaxMsgSize: maxPayload,
		Duplicates: min(dedupeWindow, maxAge),
		Replicas:   replicas,
	}
}

func functionsConfig(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: functionBucket, Storage: jetstream.FileStorage, History: 1, Replicas: replicas}
}

func marksConfig(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: markBucket, Storage: jetstream.FileStorage, History: 1, Replicas: replicas}
}

func lambdaConfig(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: lambdaBucket, Storage: jetstream.FileStorage, History: 1, Replicas: replicas}
}

// deliveryAge is how long a delivery is kept after it was last touched. No task
// waits that long to tell of its end.
const deliveryAge = 14 * 24 * time.Hour

func deliveriesConfig(bucket string, replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: bucket, Storage: jetstream.FileStorage, History: 1, Replicas: replicas, TTL: deliveryAge}
}

// leaseConfig keeps the lease in memory, so that a restart of a single server
// frees it. History must stay 1: with more, the server raises every TTL to the
// marker's.
func leaseConfig(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: leaseBucket, Storage: jetstream.MemoryStorage, History: 1, Replicas: replicas,
		LimitMarkerTTL: time.Second, // needed for a TTL per key
		MaxBytes:       1 << 20,
	}
}

// eventSubject names what a message holds. The function is in it only when all
// events are submissions to that one: few subjects keep the server's memory
// small, about 0.4 KB for each.
func eventSubject(events []functions.Event) string {
	kind, fn := events[0].Kind, functionOf(events[0])
	for _, e := range events[1:] {
		if e.Kind != kind {
			return mixedSubject
		}
		if functionOf(e) != fn {
			fn = ""
		}
	}
	return kindSubject(kind, fn)
}

const mixedSubject = "tl.mix"

func kindSubject(kind functions.Kind, fn functions.Name) string {
	if fn == "" {
		return "tl." + string(kind)
	}
	return "tl." + string(kind) + "." + string(fn)
}

// functionOf is the function that e names, if it can stand in a subject.
func functionOf(e functions.Event) functions.Name {
	if e.Sub == nil || e.Sub.Function.Validate() != nil {
		return ""
	}
	return e.Sub.Function
}

func nodeSubject(id functions.NodeID, verb string) string { return "node." + string(id) + "." + verb }

func logSubject(task functions.TaskID, attempt int) string {
	return logPrefix + string(task) + "." + strconv.Itoa(attempt)
}
