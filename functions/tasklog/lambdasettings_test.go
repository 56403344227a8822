package tasklog

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func openLambdaSettings(t *testing.T, l *Log) *LambdaSettings {
	t.Helper()
	s, err := l.LambdaSettings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLambdaSettingsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	server := startServer(t, dir)
	s := openLambdaSettings(t, openLog(t, server))
	if have, rev, err := s.Get(t.Context(), "f"); err != nil || rev != 0 || !reflect.DeepEqual(have, functions.LambdaSettings{}) {
		t.Fatalf("of a function that has none: %+v, revision %d, %v", have, rev, err)
	}
	one, none := 1, 0
	want := functions.LambdaSettings{
		First:   3,
		Aliases: map[string]functions.Alias{"live": {Version: 3, Description: "what users see"}, "next": {}},
		Async: functions.AsyncConfig{
			MaximumRetryAttempts: &one, MaximumEventAge: functions.Duration(time.Hour), OnSuccess: "arn:aws:s3:::done",
			LastModified: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		},
		Concurrency: &none, Role: "arn:aws:iam::000000000000:role/r", Tags: map[string]string{"team": "video"},
	}
	if err := s.Put(t.Context(), "f", want, 0); err != nil {
		t.Fatal(err)
	}
	server.Shutdown()
	s = openLambdaSettings(t, openLog(t, startServer(t, dir)))
	have, rev, err := s.Get(t.Context(), "f")
	if err != nil || rev == 0 || !reflect.DeepEqual(have, want) {
		t.Fatalf("after a restart: %+v, revision %d, %v; want %+v", have, rev, err, want)
	}
}

func TestLambdaSettingsRefuseALostChange(t *testing.T) {
	s := openLambdaSettings(t, openLog(t, startServer(t, t.TempDir())))
	put := func(role string, rev uint64, want error) {
		t.Helper()
		if err := s.Put(t.Context(), "f", functions.LambdaSettings{Role: role}, rev); !errors.Is(err, want) {
			t.Fatalf("put of %s over revision %d: %v, want %v", role, rev, err, want)
		}
	}
	revision := func(role string) uint64 {
		t.Helper()
		have, rev, err := s.Get(t.Context(), "f")
		if err != nil || have.Role != role {
			t.Fatalf("%+v, %v, want role %s", have, err, role)
		}
		return rev
	}
	put("a", 7, functions.ErrConflict)
	put("a", 0, nil)
	put("b", 0, functions.ErrConflict)
	first := revision("a")
	put("b", first, nil)
	put("c", first, functions.ErrConflict)
	revision("b")
	for range 2 { // the second finds none
		if err := s.Delete(t.Context(), "f"); err != nil {
			t.Fatal(err)
		}
	}
	if rev := revision(""); rev != 0 {
		t.Errorf("revision %d after the deletion", rev)
	}
	put("d", first, functions.ErrConflict)
	put("d", 0, nil)
	revision("d")
	for _, err := range []error{
		s.Put(t.Context(), "no name", functions.LambdaSettings{}, 0), s.Delete(t.Context(), "no name"),
		func() error { _, _, err := s.Get(t.Context(), "no name"); return err }(),
	} {
		if !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("a bad name: %v", err)
		}
	}
}

// TestServersThatChangeLambdaSettingsAtOnceLoseNothing: each adds aliases of its
// own and repeats what lost.
func TestServersThatChangeLambdaSettingsAtOnceLoseNothing(t *testing.T) {
	server := startServer(t, t.TempDir())
	const each = 12
	var wg sync.WaitGroup
	for n := range 3 {
		s := openLambdaSettings(t, openLog(t, server))
		wg.Go(func() {
			for i := range each {
				if err := addAlias(t.Context(), s, strconv.Itoa(n)+"-"+strconv.Itoa(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	have, _, err := openLambdaSettings(t, openLog(t, server)).Get(t.Context(), "f")
	if err != nil || len(have.Aliases) != 3*each {
		t.Errorf("%d aliases of %d, %v", len(have.Aliases), 3*each, err)
	}
}

func addAlias(ctx context.Context, s *LambdaSettings, name string) error {
	for {
		have, rev, err := s.Get(ctx, "f")
		if err != nil {
			return err
		}
		if have.Aliases == nil {
			have.Aliases = map[string]functions.Alias{}
		}
		have.Aliases[name] = functions.Alias{Version: 1}
		if err = s.Put(ctx, "f", have, rev); !errors.Is(err, functions.ErrConflict) {
			return err
		}
	}
}

func TestLambdaSettingsWithoutAServer(t *testing.T) {
	server := startServer(t, t.TempDir())
	s := openLambdaSettings(t, openLog(t, server))
	server.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := s.Get(ctx, "f"); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	if err := s.Put(ctx, "f", functions.LambdaSettings{}, 0); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("put: %v", err)
	}
}
