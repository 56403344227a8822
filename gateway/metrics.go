package gateway

import (
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/spillway/spillway/functions"
)

// metrics are this server's figures. Those of tasks are derived from the changes
// that it applied since it started; those of queues and nodes are read when they
// are asked for. No label holds an id.
type metrics struct {
	registry  *prometheus.Registry
	submitted *prometheus.CounterVec
	finished  *prometheus.CounterVec
	failures  *prometheus.CounterVec
	fallbacks *prometheus.CounterVec
	phases    *prometheus.HistogramVec
	requests  *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	gpus      *gpuMetrics

	mu        sync.Mutex // guards the gauges below while they are filled and gathered
	depth     *prometheus.GaugeVec
	slots     *prometheus.GaugeVec
	slotsUsed *prometheus.GaugeVec
	nodeUp    *prometheus.GaugeVec
	warm      *prometheus.GaugeVec
}

func newMetrics(version string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "spillway", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "spillway", Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, labels)
	}
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		gpus:      newGPUMetrics(),
		submitted: counter("tasks_submitted_total", "Tasks accepted.", "function", "source"),
		finished:  counter("tasks_finished_total", "Tasks ended.", "function", "outcome", "device"),
		failures:  counter("task_failures_total", "Tasks ended without success, by class of failure.", "function", "reason"),
		fallbacks: counter("cpu_fallbacks_total", "Tasks respawned on the CPU, by what the GPU launch failed of.", "function", "reason"),
		// 1 ms to about 70 minutes.
		phases:    histogram("task_phase_duration_seconds", "Time that ended tasks spent in each phase of their last attempt.", prometheus.ExponentialBuckets(0.001, 4, 12), "function", "phase", "device"),
		requests:  counter("http_requests_total", "HTTP requests answered.", "method", "route", "code"),
		latency:   histogram("http_request_duration_seconds", "Time to answer HTTP requests, waits included.", prometheus.ExponentialBuckets(0.0005, 4, 10), "method", "route"),
		depth:     gauge("queue_depth", "Tasks that have not ended.", "function", "state"),
		slots:     gauge("slots", "Room for tasks: GPUs, and containers for the CPU.", "node", "device"),
		slotsUsed: gauge("slots_used", "Room that is taken.", "node", "device"),
		nodeUp:    gauge("node_up", "1 when the node is heard and takes tasks.", "node"),
		warm:      gauge("warm_containers", "Containers that wait started for the function's next tasks, or are to.", "node", "function", "state"),
	}
	build := gauge("build_info", "1, with what this is.", "version", "go_version")
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(m.submitted, m.finished, m.failures, m.fallbacks, m.phases, m.requests, m.latency, m.depth, m.slots, m.slotsUsed, m.nodeUp, m.warm, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gpus.register(m.registry)
	return m
}

// observe counts what a change did.
func (m *metrics) observe(c functions.Change) {
	m.gpus.observe(&c)
	t := &c.Task
	fn, device := string(t.Function), string(t.DeviceUsed())
	if device == "" {
		device = "none"
	}
	if c.Before == "" {
		m.submitted.WithLabelValues(fn, t.Source).Inc()
	}
	if c.Kind == functions.Release && t.State == functions.Queued && t.Fallback != "" && t.Only == functions.CPU {
		if a := t.Last(); a != nil && a.Device == functions.GPU {
			m.fallbacks.WithLabelValues(fn, string(t.Fallback)).Inc()
		}
	}
	if !t.State.Final() || c.Before.Final() { // an ended task's files may be purged: it ends only once
		return
	}
	m.finished.WithLabelValues(fn, string(t.State), device).Inc()
	if t.Failure != nil {
		m.failures.WithLabelValues(fn, string(t.Failure.Class)).Inc()
	}
	for phase, ms := range timings(t) {
		m.phases.WithLabelValues(fn, phase, device).Observe(ms / 1000)
	}
}

// knownMethods bounds the label: a client may send any word.
var knownMethods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "OPTIONS": true}

func (m *metrics) request(method, route, code string, took time.Duration) {
	if !knownMethods[method] {
		method = "other"
	}
	m.requests.WithLabelValues(method, route, code).Inc()
	m.latency.WithLabelValues(method, route).Observe(took.Seconds())
}

// fill sets the gauges.
func (m *metrics) fill(counts functions.Counts, nodes []functions.NodeStatus) {
	m.depth.Reset()
	for fn, states := range counts {
		for state, n := range states {
			if !state.Final() {
				m.depth.WithLabelValues(string(fn), string(state)).Set(float64(n))
			}
		}
	}
	m.slots.Reset()
	m.slotsUsed.Reset()
	m.nodeUp.Reset()
	m.warm.Reset()
	m.gpus.fill(nodes)
	for _, n := range nodes {
		id, up, leased := string(n.ID), 0.0, 0
		if n.Alive && n.Ready {
			up = 1
		}
		for _, gpu := range n.GPUs {
			if gpu.State == functions.GPULeased {
				leased++
			}
		}
		m.nodeUp.WithLabelValues(id).Set(up)
		for _, w := range n.Warm {
			m.warm.WithLabelValues(id, string(w.Function), "wanted").Set(float64(w.Wanted))
			m.warm.WithLabelValues(id, string(w.Function), "idle").Set(float64(w.Idle))
			m.warm.WithLabelValues(id, string(w.Function), "starting").Set(float64(w.Starting))
		}
		m.slots.WithLabelValues(id, string(functions.GPU)).Set(float64(len(n.GPUs)))
		m.slotsUsed.WithLabelValues(id, string(functions.GPU)).Set(float64(leased))
		m.slots.WithLabelValues(id, string(functions.CPU)).Set(float64(n.Capacity.Tasks))
		m.slotsUsed.WithLabelValues(id, string(functions.CPU)).Set(float64(n.Capacity.Tasks - n.Free.Tasks))
	}
}

func (g *Gateway) showMetrics(w http.ResponseWriter, r *http.Request) error {
	counts, err := g.cfg.Tasks.Counts(r.Context())
	if err != nil {
		return err
	}
	m := g.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fill(counts, g.nodes())
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
	return nil
}
