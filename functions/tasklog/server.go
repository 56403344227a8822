package tasklog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ServerConfig describes the embedded log server.
type ServerConfig struct {
	Dir      string // holds the log; made when missing; one server at a time
	Listen   string // host:port for other machines; empty = this process only
	Token    string // that every client must show; required with Listen
	MaxStore int64  // bytes on disk; 0 = 8 GiB
	Log      *slog.Logger
}

const (
	defaultMaxStore = 8 << 30
	maxMemory       = 64 << 20 // the lease bucket and readers' states
)

// Server is an embedded NATS server with JetStream that syncs every write to
// disk before it acknowledges it: with any other setting a power cut loses
// acknowledged events.
type Server struct {
	srv      *server.Server
	token    string
	maxStore int64
	lock     *os.File // held against a second server in the same folder
}

// StartServer returns once clients can connect. It takes as long as reading
// back what was written since the last index, seconds at most.
func StartServer(ctx context.Context, cfg ServerConfig) (_ *Server, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxStore == 0 {
		cfg.MaxStore = defaultMaxStore
	}
	opts, err := serverOptions(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure log server: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("lock log folder: %w", err)
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("make log server: %w", err)
	}
	logs := &serverLog{log: cfg.Log.With("component", "log server"), fatal: make(chan error, 1)}
	srv.SetLoggerV2(logs, false, false, false)
	srv.Start()
	for !srv.ReadyForConnections(100 * time.Millisecond) {
		select {
		case err = <-logs.fatal:
		case <-ctx.Done():
			err = ctx.Err()
		default:
			continue
		}
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("start log server: %w", err)
	}
	return &Server{srv: srv, token: cfg.Token, maxStore: cfg.MaxStore, lock: lock}, nil
}

func serverOptions(cfg ServerConfig) (*server.Options, error) {
	o := &server.Options{
		ServerName:             "spillway",
		DontListen:             true,
		NoSigs:                 true,
		JetStream:              true,
		StoreDir:               cfg.Dir,
		SyncAlways:             true,
		JetStreamMaxMemory:     maxMemory,
		JetStreamMaxStore:      cfg.MaxStore,
		DisableJetStreamBanner: true,
		MaxPayload:             maxPayload,
		Authorization:          cfg.Token,
	}
	if cfg.Dir == "" {
		return nil, errors.New("no folder is set")
	}
	if cfg.Listen == "" {
		return o, nil
	}
	if cfg.Token == "" {
		return nil, errors.New("listening on a network needs a token")
	}
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("read listen address: %w", err)
	}
	o.Port, err = strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("read listen address: %w", err)
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	o.Host, o.DontListen = host, false
	return o, nil
}

// lockDir keeps two servers from writing one store, which would ruin it. The
// kernel lets the lock go with the process, however that ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another server uses %s", dir)
		}
		return nil, err
	}
	return f, nil
}

// ClientURL is where clients of other processes connect; meaningful with Listen.
func (s *Server) ClientURL() string { return s.srv.ClientURL() }

// Shutdown stops the server and returns when its files are closed. Close every
// Log first.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	s.lock.Close()
}
