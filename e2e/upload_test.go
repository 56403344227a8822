package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// TestUploadOutlastsTheServer kills the gateway and the store while the command
// line uploads a file in parts. The upload goes on when they are back, and there
// is one task.
func TestUploadOutlastsTheServer(t *testing.T) {
	srv := server(t, "--runtime", "simulated")
	deploySpec(t, srv, "name: echo\nimage: spillway/echo:latest\n")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	path := filepath.Join(t.TempDir(), "film.mov")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 400<<20); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("over 2 minutes"))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := srv.CLI(ctx, "upload", path, "--function", "echo")
		ended <- err
	}()
	eventually(t, time.Minute, "some parts are there", func() bool {
		var list struct{ Tasks []harness.Task }
		if err := srv.JSON(ctx, http.MethodGet, "/v1/tasks", nil, &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Tasks) == 0 {
			return false
		}
		var s struct {
			Multipart struct{ Received []functions.Part }
		}
		if err := srv.JSON(ctx, http.MethodGet, "/v1/uploads/"+string(list.Tasks[0].ID), nil, &s); err != nil {
			t.Fatal(err)
		}
		return len(s.Multipart.Received) > 0
	})
	select {
	case err := <-ended:
		t.Fatalf("it ended before the server could be killed: %v", err)
	default:
	}
	srv.Kill()
	if err := srv.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	ids := listAll(ctx, t, srv)
	if len(ids) != 1 {
		t.Fatalf("%d tasks, want one", len(ids))
	}
}
