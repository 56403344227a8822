package gateway

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// live says that the process turns; it asks nobody else.
func (g *Gateway) live(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := io.WriteString(w, "ok\n")
	return err
}

// readyLimit is how long one part may take to say that it is ready.
const readyLimit = 3 * time.Second

// ready says whether every part that a call needs answers. What is wrong is told
// to those with a key alone.
func (g *Gateway) ready(w http.ResponseWriter, r *http.Request) error {
	verbose := r.URL.Query().Has("verbose")
	if verbose {
		if err := g.authorize(r); err != nil {
			return err
		}
	}
	var text strings.Builder
	status := http.StatusOK
	for _, name := range slices.Sorted(maps.Keys(g.cfg.Ready)) {
		ctx, cancel := context.WithTimeout(r.Context(), readyLimit)
		err := g.cfg.Ready[name](ctx)
		cancel()
		if err == nil {
			fmt.Fprintf(&text, "[+]%s ok\n", name)
			continue
		}
		status = http.StatusServiceUnavailable
		fmt.Fprintf(&text, "[-]%s not ready: %v\n", name, err)
	}
	if !verbose {
		text.Reset()
	}
	if status == http.StatusOK {
		text.WriteString("ready\n")
	} else {
		text.WriteString("not ready\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, err := io.WriteString(w, text.String())
	return err
}
