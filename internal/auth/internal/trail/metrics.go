package trail

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/platform/telemetry"
)

type metrics struct {
	chained    *prometheus.CounterVec
	unreadable prometheus.Counter
	delay      prometheus.Histogram
	head       prometheus.Gauge
	broken     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, lag func() float64) (*metrics, error) {
	m := &metrics{
		chained: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_audit_chained_total",
			Help: "Audit records that were added to the chain, by the schema that they came from."}, []string{"source"}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{Name: "novacron_audit_unreadable_total",
			Help: "Audit records that could not be read and were left out."}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "novacron_audit_chain_delay_seconds",
			Help: "From the beginning of a call to its place in the chain.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 9)}),
		head: prometheus.NewGauge(prometheus.GaugeOpts{Name: "novacron_audit_chain_head", Help: "Number of the newest row of the chain, as this process has written it."}),
		broken: prometheus.NewGauge(prometheus.GaugeOpts{Name: "novacron_audit_chain_broken",
			Help: "1 when the last look found that the chain does not fit what was signed before; 'novacron audit verify' says where."}),
	}
	behind := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "novacron_audit_lag_seconds",
		Help: "For how long the records of a module could not be taken, of the one that is furthest behind."}, lag)
	return m, telemetry.Register(r, "the audit trail", m.chained, m.unreadable, m.delay, m.head, m.broken, behind)
}
