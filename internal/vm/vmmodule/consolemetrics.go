package vmmodule

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/platform/telemetry"
)

// consoleMetrics tell how consoles are used.
type consoleMetrics struct {
	registry prometheus.Registerer // nil: none
	open     *prometheus.GaugeVec
	lasted   *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
}

func newConsoleMetrics(registry prometheus.Registerer) (*consoleMetrics, error) {
	m := &consoleMetrics{registry: registry,
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "novacron_vm_consoles_open", Help: "Consoles that are open, by kind."}, []string{"kind"}),
		lasted: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "novacron_vm_console_duration_seconds", Help: "How long consoles were open, by kind.",
			Buckets: []float64{1, 10, 60, 600, 3600, 6 * 3600}}, []string{"kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_vm_console_bytes_total",
			Help: "What went through consoles that were closed, by kind and direction (from_guest, to_guest)."}, []string{"kind", "direction"}),
	}
	return m, telemetry.Register(registry, "consoles", m.collectors()...)
}

func (m *consoleMetrics) unregister() {
	if m == nil || m.registry == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registry.Unregister(c)
	}
}

func (m *consoleMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.open, m.lasted, m.bytes}
}

func (m *consoleMetrics) opened(kind string) { m.open.WithLabelValues(kind).Inc() }

func (m *consoleMetrics) closed(kind string, openFor time.Duration, fromGuest, toGuest int64) {
	m.open.WithLabelValues(kind).Dec()
	m.lasted.WithLabelValues(kind).Observe(openFor.Seconds())
	m.bytes.WithLabelValues(kind, "from_guest").Add(float64(fromGuest))
	m.bytes.WithLabelValues(kind, "to_guest").Add(float64(toGuest))
}
