// Package devices says which device a task asked for and which it got, in the
// same words on every API.
package devices

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// Headers says which device was asked for and which was used, why they differ, and
// how many attempts there were.
func Headers(h http.Header, t *functions.Task) {
	h.Set("Spillway-Device-Requested", string(t.Route.Policy))
	h.Set("Spillway-Attempts", strconv.Itoa(t.Attempt))
	if d := t.DeviceUsed(); d != "" {
		h.Set("Spillway-Device-Used", string(d))
	}
	if why := Line(FallbackReason(t)); why != "" {
		h.Set("Spillway-Fallback-Reason", why)
	}
}

// FallbackReason is why a task was respawned on the CPU; empty when it was not.
func FallbackReason(t *functions.Task) string {
	if t.Fallback == "" {
		return ""
	}
	for i := len(t.Attempts) - 1; i >= 0; i-- {
		if f := t.Attempts[i].Failure; f != nil && f.Class == t.Fallback {
			return string(f.Class) + ": " + f.Message
		}
	}
	return string(t.Fallback)
}

// mostLine is the most bytes of a line.
const mostLine = 300

// Line makes one line of printable ASCII of s, as a header can hold it.
func Line(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(s[:min(len(s), mostLine)])
}
