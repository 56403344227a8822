package retention

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/functions"
)

type metrics struct {
	deleted *prometheus.CounterVec
	bytes   *prometheus.CounterVec
	purged  *prometheus.CounterVec
	failed  prometheus.Counter
	last    prometheus.Gauge
}

func newMetrics() *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "spillway", Subsystem: "retention", Name: name, Help: help}
	}
	m := &metrics{
		deleted: prometheus.NewCounterVec(prometheus.CounterOpts(opts("objects_deleted_total", "Files of ended tasks deleted from the store.")), []string{"kind"}),
		bytes:   prometheus.NewCounterVec(prometheus.CounterOpts(opts("freed_bytes_total", "Size of the files of ended tasks deleted from the store.")), []string{"kind"}),
		purged:  prometheus.NewCounterVec(prometheus.CounterOpts(opts("tasks_purged_total", "Tasks whose files were given up.")), []string{"kind"}),
		failed:  prometheus.NewCounter(prometheus.CounterOpts(opts("failures_total", "Deletions and sweeps that failed; they are tried again."))),
		last:    prometheus.NewGauge(prometheus.GaugeOpts(opts("last_sweep_timestamp_seconds", "When this server last completed a sweep; 0 = never."))),
	}
	for _, k := range []functions.Stored{functions.StoredInputs, functions.StoredOutputs, functions.StoredLogs} {
		for _, v := range []*prometheus.CounterVec{m.deleted, m.bytes, m.purged} {
			v.WithLabelValues(string(k)) // shown from the start, as 0
		}
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.deleted, m.bytes, m.purged, m.failed, m.last}
}
