package operation

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	endedTotal *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	failures   *prometheus.CounterVec
	live       *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		endedTotal: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_operation_ended_total",
			Help: "Operations that ended, by kind and status."}, []string{"kind", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "novacron_operation_duration_seconds",
			Help: "Time from the request to the end of an operation, in seconds.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 16)}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_operation_step_failures_total",
			Help: "Attempts at a step, or at its undo, that failed."}, []string{"kind", "step"}),
		live: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "novacron_operation_live",
			Help: "Operations that have not ended, by kind."}, []string{"kind"}),
	}
	if r != nil {
		r.MustRegister(m.endedTotal, m.duration, m.failures, m.live)
	}
	return m
}

func (m *metrics) ended(op Operation) {
	m.endedTotal.WithLabelValues(op.Kind, string(op.Status)).Inc()
	if op.EndedAt != nil {
		m.duration.WithLabelValues(op.Kind).Observe(max(op.EndedAt.Sub(op.CreatedAt), time.Duration(0)).Seconds())
	}
}

func (m *metrics) stepFailed(kind, step string) { m.failures.WithLabelValues(kind, step).Inc() }
