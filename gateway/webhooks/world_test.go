package webhooks

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/ends/endstest"
)

// world has every server of the web in it too, and every one of ours.
type world struct {
	*endstest.World
	mu     sync.Mutex // guards calls
	calls  []call
	answer func(url string, n int) (int, time.Duration, error) // of the nth call of a URL
	hooks  *Webhooks
}

type call struct {
	at     time.Time
	url    string
	header http.Header
	body   []byte
}

const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func newWorld() *world {
	w := &world{World: endstest.New()}
	w.restart()
	return w
}

// restart is another server's turn: it knows nothing.
func (w *world) restart() {
	secret, err := ParseSecret(secretText)
	if err != nil {
		panic(err)
	}
	w.hooks = New(Config{
		Log: w, Gap: endstest.ErrGap, Tasks: w, Outbox: endstest.Outbox{World: w.World}, Poster: w, Secret: secret, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Render: func(_ context.Context, t *functions.Task) (json.RawMessage, error) {
			return json.Marshal(map[string]any{"id": t.ID, "state": t.State})
		},
	})
}

// set puts a task into a state, and tells the server of it when it hears.
func (w *world) set(id functions.TaskID, url string, state functions.State, heard bool) {
	c := w.Set(functions.Task{ID: id, State: state, Webhook: url})
	if heard {
		w.hooks.Changed([]functions.Change{c})
	}
}

func (w *world) Post(_ context.Context, url string, header http.Header, body []byte) (int, time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 1
	for _, c := range w.calls {
		if c.url == url {
			n++
		}
	}
	w.calls = append(w.calls, call{time.Now(), url, header, body})
	if w.answer == nil {
		return http.StatusOK, 0, nil
	}
	return w.answer(url, n)
}

// verify checks a call as a receiver does.
func verify(c call) error {
	key, err := base64.StdEncoding.DecodeString(secretText[len("whsec_"):])
	if err != nil {
		return err
	}
	return check(key, c.header, c.body)
}
