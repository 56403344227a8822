package serve

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
)

// extensions serves what programs beside the runtime ask for. They may register
// and wait; no event ever comes to them, and the end of their wait is the end of
// the container. Their telemetry subscriptions are accepted and stay silent:
// output is read where it is written.
func (l *Lambda) extensions(mux *http.ServeMux) {
	const base = "/2020-01-01/extension"
	mux.HandleFunc("POST "+base+"/register", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Lambda-Extension-Identifier", newUUID())
		reply(w, http.StatusOK, map[string]string{
			"functionName": string(l.cfg.Function), "functionVersion": strconv.Itoa(l.cfg.Version),
			"handler": "", "accountId": "000000000000",
		})
	})
	mux.HandleFunc("GET "+base+"/event/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-l.end.ctx.Done():
			panic(http.ErrAbortHandler)
		}
	})
	accept := func(w http.ResponseWriter, r *http.Request) { accepted(w) }
	mux.HandleFunc("POST "+base+"/init/error", accept)
	mux.HandleFunc("POST "+base+"/exit/error", accept)
	mux.HandleFunc("PUT /2020-08-15/logs", accept)
	mux.HandleFunc("PUT /2022-07-01/telemetry", accept)
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
