package vmmodule

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/platform/telemetry"
)

// statusMetrics tell where statuses of virtual machines come from.
type statusMetrics struct {
	registry prometheus.Registerer // nil: none
	reads    *prometheus.CounterVec
	failures prometheus.Counter
}

func newStatusMetrics(registry prometheus.Registerer) (*statusMetrics, error) {
	m := &statusMetrics{registry: registry,
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_vm_status_reads_total",
			Help: "Statuses of virtual machines that were asked for, by where they were looked for last: the cache (hit) or the database (miss)."}, []string{"result"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "novacron_vm_status_cache_errors_total",
			Help: "Times that the cache of statuses could not be read or written."}),
	}
	return m, telemetry.Register(registry, "statuses", m.reads, m.failures)
}

// Read implements statuscache.Recorder.
func (m *statusMetrics) Read(hits, misses int) {
	m.reads.WithLabelValues("hit").Add(float64(hits))
	m.reads.WithLabelValues("miss").Add(float64(misses))
}

// CacheFailed implements statuscache.Recorder.
func (m *statusMetrics) CacheFailed() { m.failures.Inc() }

func (m *statusMetrics) unregister() {
	if m == nil || m.registry == nil {
		return
	}
	m.registry.Unregister(m.reads)
	m.registry.Unregister(m.failures)
}
