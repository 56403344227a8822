package tasklog

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestOneServerPerFolder(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir)
	if second, err := StartServer(t.Context(), ServerConfig{Dir: dir}); err == nil {
		second.Shutdown()
		t.Fatal("two servers share a folder")
	}
	s.Shutdown()
	startServer(t, dir)
}

func TestListeningNeedsAToken(t *testing.T) {
	if s, err := StartServer(t.Context(), ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0"}); err == nil {
		s.Shutdown()
		t.Error("a server listens without a token")
	}
	s := startServerWith(t, ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret"})
	for _, token := range []string{"", "wrong"} {
		if l, err := Open(t.Context(), Config{URL: s.ClientURL(), Token: token}); err == nil {
			l.Close()
			t.Errorf("token %q opens the log", token)
		}
	}
	openWith(t, Config{URL: s.ClientURL(), Token: "secret"})
	openLog(t, s)
}

func TestPortTaken(t *testing.T) {
	s := startServerWith(t, ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "x"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	second, err := StartServer(ctx, ServerConfig{Dir: t.TempDir(), Listen: strings.TrimPrefix(s.ClientURL(), "nats://"), Token: "x"})
	if err == nil {
		second.Shutdown()
		t.Fatal("two servers share a port")
	}
	if ctx.Err() != nil {
		t.Errorf("it took the whole time to say: %v", err)
	}
}

func TestServerLogsToSlog(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	h := slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug})
	startServerWith(t, ServerConfig{Dir: t.TempDir(), Log: slog.New(h)})
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(out.String(), `component="log server"`) {
		t.Errorf("nothing of the server in %q", out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestEveryWriteIsSynced guards the one setting on which durability rests.
func TestEveryWriteIsSynced(t *testing.T) {
	o, err := serverOptions(ServerConfig{Dir: t.TempDir(), MaxStore: 1})
	if err != nil || !o.SyncAlways || !o.DontListen || !o.NoSigs {
		t.Errorf("options %+v, %v", o, err)
	}
}

// TestOpenKeepsSettings: a node that names no settings must not change the log.
func TestOpenKeepsSettings(t *testing.T) {
	s := startServerWith(t, ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "x"})
	l := openWith(t, Config{Server: s, MaxAge: 48 * time.Hour})
	for _, c := range []struct {
		cfg  Config
		want time.Duration
	}{
		{Config{URL: s.ClientURL(), Token: "x"}, 48 * time.Hour},
		{Config{Server: s}, 48 * time.Hour},
		{Config{Server: s, MaxAge: time.Hour}, time.Hour},
	} {
		openWith(t, c.cfg)
		info, err := l.streamInfo(t.Context(), streamName)
		if err != nil {
			t.Fatal(err)
		}
		if info.Config.MaxAge != c.want || info.Config.MaxBytes != defaultMaxStore/10*9 {
			t.Errorf("after %+v: max age %v, max bytes %d", c.cfg, info.Config.MaxAge, info.Config.MaxBytes)
		}
	}
}
