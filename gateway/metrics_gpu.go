package gateway

import (
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/functions"
)

// gpuMetrics are the figures of GPUs. The gauges are of the nodes as they are
// when they are asked for, and are guarded by metrics.mu; the counters are of
// what this server has seen since it started.
type gpuMetrics struct {
	size, used, free *prometheus.GaugeVec
	busy             *prometheus.GaugeVec
	leases           *prometheus.GaugeVec
	state            *prometheus.GaugeVec
	host             *prometheus.GaugeVec

	quarantines *prometheus.CounterVec
	failures    *prometheus.CounterVec

	mu   sync.Mutex // guards seen
	seen map[functions.NodeID]map[string]offer
}

// offer is how far a device was offered when its node was last heard.
type offer struct {
	state functions.GPUState
	until time.Time
}

func newGPUMetrics() *gpuMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "gpu", Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "gpu", Name: name, Help: help}, labels)
	}
	return &gpuMetrics{
		size:        gauge("memory_size_bytes", "Memory of the device.", "node", "gpu", "model"),
		used:        gauge("memory_used_bytes", "Memory that is in use by anybody, as last read.", "node", "gpu"),
		free:        gauge("memory_free_bytes", "Memory for further tasks: of what is promised and what was read, the less.", "node", "gpu"),
		busy:        gauge("utilisation_ratio", "Share of the time that the device works, 0 to 1, as last read.", "node", "gpu"),
		leases:      gauge("leases", "Tasks that hold the device.", "node", "gpu"),
		state:       gauge("state", "1 for the state that the device is in.", "node", "gpu", "state"),
		host:        gauge("host_state", "1 for the state that the node's GPUs as a whole are in.", "node", "state"),
		quarantines: counter("quarantines_total", "Times that a device ceased to be offered or stayed so after a trial, by what it failed of.", "node", "state", "reason"),
		failures:    counter("attempt_failures_total", "Attempts that held a GPU and failed for a cause that a CPU does not share, by class of failure.", "node", "reason"),
		seen:        map[functions.NodeID]map[string]offer{},
	}
}

func (m *gpuMetrics) gauges() []*prometheus.GaugeVec {
	return []*prometheus.GaugeVec{m.size, m.used, m.free, m.busy, m.leases, m.state, m.host}
}

func (m *gpuMetrics) register(to prometheus.Registerer) {
	for _, g := range m.gauges() {
		to.MustRegister(g)
	}
	to.MustRegister(m.quarantines, m.failures)
}

// observe counts attempts that a GPU has failed. The event that ends an attempt
// is the one that shows it ended first.
func (m *gpuMetrics) observe(c *functions.Change) {
	if c.Kind != functions.Finish {
		return
	}
	a := c.Task.Last()
	if a == nil || a.Device != functions.GPU || a.Failure == nil || !a.Failure.Class.GPUFault() {
		return
	}
	m.failures.WithLabelValues(string(a.Node), string(a.Failure.Class)).Inc()
}

// SawNode takes what a node says of itself, to count the quarantines of its GPUs.
// It does not block.
func (g *Gateway) SawNode(n functions.NodeInfo) { g.metrics.gpus.saw(n) }

func (m *gpuMetrics) saw(n functions.NodeInfo) {
	now := make(map[string]offer, len(n.GPUs))
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.seen[n.ID]
	for _, d := range n.GPUs {
		now[d.UUID] = offer{d.State, d.Until}
		was, known := before[d.UUID]
		stopped := d.State == functions.GPUQuarantined || d.State == functions.GPUEjected
		if known && stopped && (was.state != d.State || d.Until.After(was.until)) {
			m.quarantines.WithLabelValues(string(n.ID), string(d.State), cause(d.Reason)).Inc()
		}
	}
	m.seen[n.ID] = now
}

var xid = regexp.MustCompile(`(?i)\bxid:? (\d{1,4})\b`)

// cause makes a label of the reason why a device is not offered: the class of the
// failure that it begins with, or the number of the driver's error. A label holds
// no text: each would be a series of its own.
func cause(reason string) string {
	class, _, _ := strings.Cut(reason, ":")
	if c := functions.Class(class); c.GPUFault() {
		return class
	}
	if number := xid.FindStringSubmatch(reason); number != nil {
		return "xid_" + number[1]
	}
	return "other"
}

// fill sets the gauges, and forgets nodes that are gone.
func (m *gpuMetrics) fill(nodes []functions.NodeStatus) {
	for _, g := range m.gauges() {
		g.Reset()
	}
	here := map[functions.NodeID]bool{}
	for _, n := range nodes {
		here[n.ID] = true
		for _, d := range n.GPUs {
			m.fillDevice(string(n.ID), d)
		}
		if n.GPUHost == nil {
			continue
		}
		for _, s := range []functions.GPUHostState{functions.GPUHostReady, functions.GPUHostOff, functions.GPUHostNone} {
			m.host.WithLabelValues(string(n.ID), string(s)).Set(one(s == n.GPUHost.State))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.seen {
		if !here[id] {
			delete(m.seen, id)
		}
	}
}

func (m *gpuMetrics) fillDevice(node string, d functions.GPUInfo) {
	if d.Memory > 0 {
		m.size.WithLabelValues(node, d.UUID, d.Model).Set(float64(d.Memory))
	}
	if !d.ReadAt.IsZero() {
		m.used.WithLabelValues(node, d.UUID).Set(float64(d.Used))
		m.free.WithLabelValues(node, d.UUID).Set(float64(d.Free))
		if d.Utilisation >= 0 {
			m.busy.WithLabelValues(node, d.UUID).Set(float64(d.Utilisation) / 100)
		}
	}
	m.leases.WithLabelValues(node, d.UUID).Set(float64(len(d.Leases)))
	for _, s := range []functions.GPUState{functions.GPUFree, functions.GPULeased, functions.GPUQuarantined, functions.GPUEjected, functions.GPUUnread} {
		m.state.WithLabelValues(node, d.UUID, string(s)).Set(one(s == d.State))
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
