package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

var errStopping = errors.New("the server is stopping")

// serve runs the only HTTP server loop until ctx ends; then it takes no more
// connections, lets calls in flight finish for grace, and cuts the rest off with
// a cause.
func serve(ctx context.Context, ln net.Listener, h http.Handler, grace time.Duration, log *slog.Logger) error {
	work, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(errStopping)
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return work },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	// Calls that wait for a task would hold the server for their whole wait:
	// they learn at once that it stops.
	stop := context.AfterFunc(bounded, func() { kill(errStopping) })
	defer stop()
	if err := srv.Shutdown(bounded); err != nil {
		kill(errStopping)
		srv.Close()
	}
	<-done
	return nil
}
