package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// taskView is what the commands show of a task.
type taskView struct {
	ID              functions.TaskID    `json:"id"`
	Function        functions.Name      `json:"function"`
	Version         int                 `json:"version"`
	Status          string              `json:"status"`
	DeviceRequested string              `json:"device_requested"`
	DeviceUsed      functions.Device    `json:"device_used"`
	FallbackReason  string              `json:"fallback_reason"`
	Route           functions.Route     `json:"route"`
	Waiting         *functions.Waiting  `json:"waiting"`
	Progress        *functions.Progress `json:"progress"`
	Attempts        []functions.Attempt `json:"attempts"`
	Failure         *functions.Failure  `json:"failure"`
	Outputs         []outputView        `json:"outputs"`
	Timings         map[string]float64  `json:"timings"`
	CreatedAt       time.Time           `json:"created_at"`
}

type outputView struct {
	Name        string `json:"name"`
	Size        int64  `json:"size"`
	ContentType string `json:"content_type"`
	DownloadURL string `json:"download_url"`
}

// name is how scripts name the task.
func (t taskView) name() string { return "task/" + string(t.ID) }

// ended reports whether the task has a final state.
func (t taskView) ended() bool { return functions.State(t.Status).Final() }

func (t taskView) failed() error {
	if !t.ended() || t.Status == string(functions.Succeeded) {
		return nil
	}
	e := &taskError{id: t.ID, class: t.Status, message: "it has no result"}
	if t.Failure != nil {
		e.class, e.message, e.hint = string(t.Failure.Class), t.Failure.Message, t.Failure.Hint
	}
	return e
}

// pulling says how far the image is on its way to the node, while it is.
func (t taskView) pulling() string {
	if t.ended() || t.Progress == nil || t.Progress.Phase != functions.PhasePull {
		return ""
	}
	return t.Progress.Message
}

// why is the one sentence that matters for the task now.
func (t taskView) why() string {
	switch {
	case t.Waiting != nil:
		return t.Waiting.Reason
	case t.pulling() != "":
		return t.pulling()
	case t.Failure != nil:
		return string(t.Failure.Class) + ": " + t.Failure.Message
	case t.FallbackReason != "":
		return t.FallbackReason
	case len(t.Attempts) > 0:
		return t.Attempts[len(t.Attempts)-1].Reason
	}
	return t.Route.Reason
}

// phases writes "queue 2 launch 310 run 40" in milliseconds, in order.
func (t taskView) phases() string {
	var b strings.Builder
	for _, p := range []functions.Phase{functions.PhaseQueue, functions.PhaseStage, functions.PhasePull, functions.PhaseLaunch, functions.PhaseRun, functions.PhaseCollect} {
		if ms, ok := t.Timings[string(p)]; ok {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%s %.0f", p, ms)
		}
	}
	return b.String()
}

// ago writes an age shortly: 5s, 3m, 2h, 4d.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	switch d := time.Since(t); {
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%.0fm", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0fh", d.Hours())
	default:
		return fmt.Sprintf("%.0fd", d.Hours()/24)
	}
}

// clip cuts a cell to n runes.
func clip(s string, n int) string {
	r := []rune(strings.ReplaceAll(s, "\n", " "))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-1]) + "…"
}
