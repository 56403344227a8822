package gateway

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/devices"
)

// taskView is a task as the API shows it.
type taskView struct {
	ID              functions.TaskID    `json:"id"`
	Function        functions.Name      `json:"function"`
	Version         int                 `json:"version"`
	Status          string              `json:"status"` // the state, or the live phase of a running attempt
	DeviceRequested functions.Policy    `json:"device_requested"`
	DeviceUsed      functions.Device    `json:"device_used,omitempty"`
	DeviceReason    string              `json:"device_reason,omitempty"`
	FallbackReason  string              `json:"fallback_reason,omitempty"`
	Attempts        []functions.Attempt `json:"attempts"`
	Waiting         *functions.Waiting  `json:"waiting,omitempty"`
	Progress        *functions.Progress `json:"progress,omitempty"`
	Timings         map[string]float64  `json:"timings"` // ms per phase of the newest attempt
	Route           functions.Route     `json:"route"`
	Inputs          []functions.Input   `json:"inputs,omitempty"`
	Outputs         []outputView        `json:"outputs,omitempty"`
	Purged          functions.Purged    `json:"purged,omitzero"` // kinds of its stored files that are not kept any more, and since when
	Failure         *functions.Failure  `json:"failure,omitempty"`
	Parent          functions.TaskID    `json:"parent,omitempty"` // whose output or end it works on
	Depth           int                 `json:"depth,omitempty"`  // tasks in line before it
	Source          string              `json:"source"`
	CallID          string              `json:"call_id,omitempty"`
	Metadata        json.RawMessage     `json:"metadata,omitempty"`
	Webhook         string              `json:"webhook,omitempty"` // told of the end
	Priority        int                 `json:"priority"`

	Retries   *functions.Retries      `json:"retries,omitempty"`    // of its own
	MaxAge    functions.Duration      `json:"max_age,omitempty"`    // of its own
	OnSuccess []functions.Destination `json:"on_success,omitempty"` // where the record of its end goes
	OnFailure []functions.Destination `json:"on_failure,omitempty"`

	CreatedAt  time.Time `json:"created_at"`
	QueuedAt   time.Time `json:"queued_at,omitzero"`
	NotBefore  time.Time `json:"not_before,omitzero"`
	StartedAt  time.Time `json:"started_at,omitzero"` // of the newest attempt
	FinishedAt time.Time `json:"finished_at,omitzero"`
	Seq        uint64    `json:"seq"`
}

type outputView struct {
	Name        string `json:"name"`
	Size        int64  `json:"size"`
	ContentType string `json:"content_type,omitempty"`
	SHA256      string `json:"sha256,omitempty"`
	URL         string `json:"url"`                    // here; redirects to a fresh download URL
	DownloadURL string `json:"download_url,omitempty"` // at the store; needs no key, holds for downloadTTL
}

// downloadTTL is how long a download URL holds.
const downloadTTL = 15 * time.Minute

// view shows a task without its download URLs, which cost a signature each.
func (g *Gateway) view(t *functions.Task) taskView {
	v := taskView{
		ID: t.ID, Function: t.Function, Version: t.Version, Status: g.status(t),
		DeviceRequested: t.Route.Policy, DeviceUsed: t.DeviceUsed(), FallbackReason: devices.FallbackReason(t),
		Attempts: t.Attempts, Progress: g.Feed.latest(t), Timings: timings(t), Route: t.Route, Inputs: t.Inputs,
		Purged: t.Purged, Failure: t.Failure, Parent: t.Parent, Depth: t.Depth, Source: t.Source, CallID: t.CallID, Metadata: t.Metadata, Webhook: t.Webhook, Priority: t.Priority,
		CreatedAt: t.CreatedAt, QueuedAt: t.QueuedAt, NotBefore: t.NotBefore, FinishedAt: t.FinishedAt, Seq: t.Seq,
	}
	v.Retries, v.MaxAge, v.OnSuccess, v.OnFailure = t.Retries, t.MaxAge, t.OnSuccess, t.OnFailure
	if v.Attempts == nil {
		v.Attempts = []functions.Attempt{}
	}
	if a := t.Last(); a != nil {
		v.DeviceReason, v.StartedAt = a.Reason, a.StartedAt
	}
	if t.State == functions.Queued || t.State == functions.AwaitingUpload || t.State == functions.Deciding {
		v.Waiting = g.waiting(t)
	}
	if t.Outcome != nil && t.State == functions.Succeeded {
		for _, o := range t.Outcome.Outputs {
			v.Outputs = append(v.Outputs, outputView{
				Name: o.Name, Size: o.Size, ContentType: o.ContentType, SHA256: o.SHA256,
				URL: "/v1/tasks/" + string(t.ID) + "/outputs/" + escapePath(o.Name),
			})
		}
	}
	return v
}

// waiting explains a wait. The scheduler of another server may be the leader;
// then it is not known here, and the wait is still not left unexplained.
func (g *Gateway) waiting(t *functions.Task) *functions.Waiting {
	if t.State == functions.AwaitingUpload {
		return &functions.Waiting{Code: functions.WaitUpload, Reason: "its file has not been uploaded yet"}
	}
	if w, ok := g.cfg.Scheduler.Explain(t.ID); ok {
		return &w
	}
	if now := g.cfg.Now(); t.NotBefore.After(now) {
		return &functions.Waiting{Code: functions.WaitDelay, Reason: "it is tried again in " + t.NotBefore.Sub(now).Round(time.Second).String()}
	}
	return &functions.Waiting{Code: functions.WaitTurn, Reason: "it is about to be placed"}
}

// full shows a task with download URLs, unless its outputs are not kept any more.
func (g *Gateway) full(ctx context.Context, t *functions.Task) (taskView, error) {
	v := g.view(t)
	if !t.Purged.Outputs.IsZero() {
		return v, nil
	}
	for i := range v.Outputs {
		o := t.Outcome.Outputs[i]
		to, err := g.cfg.Objects.PresignGet(ctx, o.ObjectRef, downloadTTL, baseName(o.Name))
		if err != nil {
			return v, err
		}
		v.Outputs[i].DownloadURL = to.URL
	}
	return v, nil
}

// phaseStatus names what a running attempt is doing.
var phaseStatus = map[functions.Phase]string{
	functions.PhasePull: "pulling", functions.PhaseStage: "staging", functions.PhaseLaunch: "starting",
	functions.PhaseRun: "running", functions.PhaseCollect: "uploading",
}

func (g *Gateway) status(t *functions.Task) string {
	if p := g.Feed.latest(t); p != nil && phaseStatus[p.Phase] != "" {
		return phaseStatus[p.Phase]
	}
	return string(t.State)
}

// timings are the phases of the newest attempt and the wait before it, in ms.
func timings(t *functions.Task) map[string]float64 {
	m := map[string]float64{}
	a := t.Last()
	if a == nil {
		return m
	}
	if d := a.StartedAt.Sub(t.QueuedAt); d >= 0 && !t.QueuedAt.IsZero() {
		m[string(functions.PhaseQueue)] = ms(d)
	}
	for _, s := range a.Phases {
		m[string(s.Phase)] = s.MS
	}
	if !t.FinishedAt.IsZero() {
		m["total"] = ms(t.FinishedAt.Sub(t.CreatedAt))
	}
	return m
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func escapePath(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

func baseName(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
