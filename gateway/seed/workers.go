package seed

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/spillway/spillway/functions"
)

// The names of the two queues, which clients look up.
const (
	gpuQueue = "gpu-tasks"
	cpuQueue = "celery"
)

type workers struct {
	Workers struct {
		Total   int                         `json:"total"`
		GPU     int                         `json:"gpu"`
		CPU     int                         `json:"cpu"`
		Details map[functions.NodeID]worker `json:"details"`
	} `json:"workers"`
	Queues       map[string]queue `json:"queues"`
	GPUAvailable bool             `json:"gpu_available"` // a GPU could be had, now or after its task
}

type worker struct {
	Type   string   `json:"type"`
	Active int      `json:"active_tasks"`
	Max    int      `json:"max_tasks"`
	Queues []string `json:"queues"`
}

type queue struct {
	Length  int64 `json:"length"`
	Workers int   `json:"workers"`
}

func (a *API) workers(w http.ResponseWriter, r *http.Request) error {
	waiting, err := a.cfg.Tasks.Waiting(r.Context())
	if err != nil {
		return fmt.Errorf("read queue lengths: %w", err)
	}
	var out workers
	out.Workers.Details = map[functions.NodeID]worker{}
	for _, n := range a.cfg.Nodes.Nodes() {
		if !n.Alive {
			continue
		}
		d := worker{Type: "cpu", Active: len(n.Running), Max: n.Capacity.Tasks, Queues: []string{cpuQueue}}
		if healthyGPU(n) {
			d.Type, d.Queues = "gpu", []string{gpuQueue, cpuQueue}
			out.Workers.GPU++
			out.GPUAvailable = out.GPUAvailable || n.Ready
		} else {
			out.Workers.CPU++
		}
		out.Workers.Total++
		out.Workers.Details[n.ID] = d
	}
	out.Queues = map[string]queue{
		gpuQueue: {Length: waiting[functions.GPU], Workers: out.Workers.GPU},
		cpuQueue: {Length: waiting[functions.CPU], Workers: out.Workers.Total},
	}
	return a.answer(w, r, http.StatusOK, out)
}

// healthyGPU reports whether a GPU of the node can be had, now or after its task.
func healthyGPU(n functions.NodeStatus) bool {
	if n.GPUHost != nil && n.GPUHost.State == functions.GPUHostOff {
		return false
	}
	return slices.ContainsFunc(n.GPUs, func(g functions.GPUInfo) bool { return g.State.Healthy() })
}

// executing are the states in which a worker holds the task.
var executing = []functions.State{functions.Assigned, functions.Deciding, functions.Canceling}

type active struct {
	Tasks []functions.TaskID `json:"active_tasks"` // the newest 1000
	Count int64              `json:"count"`        // of all
}

func (a *API) active(w http.ResponseWriter, r *http.Request) error {
	page, err := a.cfg.Tasks.List(r.Context(), functions.TaskQuery{States: executing, Limit: 1000})
	if err != nil {
		return fmt.Errorf("list active tasks: %w", err)
	}
	counts, err := a.cfg.Tasks.Counts(r.Context())
	if err != nil {
		return fmt.Errorf("count active tasks: %w", err)
	}
	out := active{Tasks: make([]functions.TaskID, len(page.Tasks)), Count: sum(counts, executing...)}
	for i, t := range page.Tasks {
		out.Tasks[i] = t.ID
	}
	return a.answer(w, r, http.StatusOK, out)
}

// stats are the queue counters. Those of ended tasks count all that is on record.
type stats struct {
	Pending   int64            `json:"pending"`
	Active    int64            `json:"active"`
	Completed int64            `json:"completed"`
	Failed    int64            `json:"failed"`
	Revoked   int64            `json:"revoked"`
	Queues    map[string]int64 `json:"queues"`
}

func (a *API) queues(w http.ResponseWriter, r *http.Request) error {
	counts, err := a.cfg.Tasks.Counts(r.Context())
	if err != nil {
		return fmt.Errorf("count tasks: %w", err)
	}
	waiting, err := a.cfg.Tasks.Waiting(r.Context())
	if err != nil {
		return fmt.Errorf("read queue lengths: %w", err)
	}
	return a.answer(w, r, http.StatusOK, stats{
		Pending:   sum(counts, functions.AwaitingUpload, functions.Queued),
		Active:    sum(counts, executing...),
		Completed: sum(counts, functions.Succeeded),
		Failed:    sum(counts, functions.Failed, functions.TimedOut, functions.Expired),
		Revoked:   sum(counts, functions.Canceled),
		Queues:    map[string]int64{gpuQueue: waiting[functions.GPU], cpuQueue: waiting[functions.CPU]},
	})
}

func sum(c functions.Counts, states ...functions.State) (n int64) {
	for _, byState := range c {
		for _, s := range states {
			n += byState[s]
		}
	}
	return n
}
