package webhooks

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/functions"
)

type figures struct {
	calls *prometheus.CounterVec
}

func newFigures() figures {
	f := figures{prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "spillway", Name: "webhook_calls_total", Help: "Calls of webhooks, by what came of them: delivered, failed (tried again), gave_up.",
	}, []string{"outcome"})}
	for _, o := range []string{"delivered", "failed", "gave_up"} {
		f.calls.WithLabelValues(o)
	}
	return f
}

func (f figures) all() []prometheus.Collector { return []prometheus.Collector{f.calls} }

func (f figures) tried(d functions.Delivery) {
	outcome := "failed"
	switch {
	case !d.Delivered.IsZero():
		outcome = "delivered"
	case d.GaveUp != "":
		outcome = "gave_up"
	}
	f.calls.WithLabelValues(outcome).Inc()
}
