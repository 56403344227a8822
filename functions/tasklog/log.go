package tasklog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says which log to open. Exactly one of Server and URL is set.
type Config struct {
	Server   *Server       // in this process
	URL      string        // elsewhere; several may be joined by commas
	Token    string        // for URL
	Name     string        // of this client, for the server's operator
	Replicas int           // 0 = as the log stands, 1 when it is new
	MaxAge   time.Duration // of events; 0 = as the log stands, 8 days when it is new
	Log      *slog.Logger
}

// Log is a connection to the task log. Its methods may be called at once.
type Log struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	log      *slog.Logger
	replicas int
	timing   timing
	stop     chan struct{} // closed by Close
	closing  sync.Once
	flushers sync.WaitGroup

	mu          sync.Mutex    // guards the fields below
	reconnected chan struct{} // closed and replaced when the connection comes back
	waiting     []*batch      // not yet being published; only the last has room
	flushing    bool          // a flusher runs
	closed      bool
}

// Open connects and makes what is missing: the stream and the buckets. It can
// be repeated at will. The caller closes the log.
func Open(ctx context.Context, cfg Config) (_ *Log, err error) {
	l := &Log{
		log:         cfg.Log,
		replicas:    max(cfg.Replicas, 1),
		timing:      defaultTiming,
		stop:        make(chan struct{}),
		reconnected: make(chan struct{}),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.log = l.log.With("component", "tasklog")
	if l.nc, err = l.connect(cfg); err != nil {
		return nil, fmt.Errorf("connect to the log server: %w", errLog(err))
	}
	defer func() {
		if err != nil {
			l.nc.Close()
		}
	}()
	if l.js, err = jetstream.New(l.nc); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	var room int64 = -1
	if cfg.Server != nil {
		room = cfg.Server.maxStore / 10 * 9 // the rest is for the function bucket and file overhead
	}
	if err = l.ensureStream(ctx, cfg, room); err != nil {
		return nil, fmt.Errorf("make the log: %w", errLog(err))
	}
	return l, nil
}

func (l *Log) connect(cfg Config) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.PingInterval(pingInterval),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		// Nothing is kept for later while the connection is down: a late order
		// or heartbeat is worse than none, and events are repeated by their id.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				l.log.Warn("log server disconnected", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			l.log.Info("log server reconnected")
			l.mu.Lock()
			defer l.mu.Unlock()
			close(l.reconnected)
			l.reconnected = make(chan struct{})
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			l.log.Warn("log connection error", "subject", subject, "err", err)
		}),
	}
	switch {
	case cfg.Server != nil && cfg.URL != "":
		return nil, errors.New("both a server and a URL are set")
	case cfg.Server != nil:
		opts = append(opts, nats.InProcessServer(cfg.Server.srv), nats.Token(cfg.Server.token))
		return nats.Connect("", opts...)
	case cfg.URL == "":
		return nil, errors.New("neither a server nor a URL is set")
	}
	return nats.Connect(cfg.URL, append(opts, nats.Token(cfg.Token))...)
}

// ensureStream leaves settings that cfg does not name as they are, so that a
// node with an empty configuration changes nothing.
func (l *Log) ensureStream(ctx context.Context, cfg Config, room int64) error {
	maxAge := cfg.MaxAge
	if maxAge == 0 {
		maxAge = defaultMaxAge
	}
	s, err := l.js.Stream(ctx, streamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = l.js.CreateStream(ctx, logConfig(l.replicas, maxAge, room))
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
		s, err = l.js.Stream(ctx, streamName) // another server was faster
	}
	if err != nil {
		return err
	}
	have := s.CachedInfo().Config
	want := have
	if cfg.Replicas != 0 {
		want.Replicas = cfg.Replicas
	} else {
		l.replicas = have.Replicas
	}
	if cfg.MaxAge != 0 {
		want.MaxAge, want.Duplicates = cfg.MaxAge, min(dedupeWindow, cfg.MaxAge)
	}
	if cfg.Server != nil {
		want.MaxBytes = room
	}
	if have.Replicas == want.Replicas && have.MaxAge == want.MaxAge && have.MaxBytes == want.MaxBytes {
		return nil
	}
	_, err = l.js.UpdateStream(ctx, want)
	return err
}

// Close ends the connection. Submissions that are not acknowledged yet fail.
func (l *Log) Close() {
	l.closing.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.stop)
		l.nc.Close()
	})
	l.flushers.Wait()
}

// LastSeq returns the sequence of the newest message; 0 when the log is empty.
func (l *Log) LastSeq(ctx context.Context) (uint64, error) {
	info, err := l.streamInfo(ctx, streamName)
	if err != nil {
		return 0, fmt.Errorf("read the log's state: %w", errLog(err))
	}
	return info.State.LastSeq, nil
}

func (l *Log) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	s, err := l.js.Stream(ctx, name) // asks the server
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// reconnect returns a channel that is closed when the connection next comes back.
func (l *Log) reconnect() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reconnected
}
