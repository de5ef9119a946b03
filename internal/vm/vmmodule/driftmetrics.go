package vmmodule

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/platform/telemetry"
	"github.com/novacron/novacron/internal/vm"
)

// driftMetrics tell what the last audit found and what was done about it.
type driftMetrics struct {
	registry         prometheus.Registerer // nil: none
	findings, silent *prometheus.GaugeVec
	set, bytes       prometheus.Gauge
	acted            *prometheus.CounterVec
}

func newDriftMetrics(registry prometheus.Registerer) (*driftMetrics, error) {
	m := &driftMetrics{registry: registry,
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "novacron_vm_drift_findings", Help: "Differences that the last audit found, by kind."}, []string{"kind"}),
		silent:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "novacron_vm_drift_skipped_nodes", Help: "Nodes that did not answer the last audit."}, nil),
		set:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "novacron_vm_quarantined", Help: "Machines and volumes that are set aside."}),
		bytes:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "novacron_vm_quarantined_bytes", Help: "What is set aside takes of the storage of nodes."}),
		acted:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_vm_drift_actions_total", Help: "What was done about drift, by action and result."}, []string{"action", "result"}),
	}
	return m, telemetry.Register(registry, "drift", m.all()...)
}

func (m *driftMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.findings, m.silent, m.set, m.bytes, m.acted}
}

// Audited implements service.DriftRecorder.
func (m *driftMetrics) Audited(report vm.DriftReport) {
	m.findings.Reset()
	for _, f := range report.Findings {
		m.findings.WithLabelValues(string(f.Kind)).Inc()
	}
	var bytes int64
	for _, q := range report.Quarantined {
		bytes += q.Bytes
	}
	m.silent.WithLabelValues().Set(float64(len(report.Skipped)))
	m.set.Set(float64(len(report.Quarantined)))
	m.bytes.Set(float64(bytes))
}

// Acted implements service.DriftRecorder.
func (m *driftMetrics) Acted(action string, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.acted.WithLabelValues(action, result).Inc()
}

func (m *driftMetrics) unregister() {
	if m == nil || m.registry == nil {
		return
	}
	for _, c := range m.all() {
		m.registry.Unregister(c)
	}
}
