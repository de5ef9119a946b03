package operation

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are shared by the engines of one process, whose kinds differ.
type metrics struct {
	endedTotal *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	failures   *prometheus.CounterVec
	live       *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		endedTotal: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_operation_ended_total",
			Help: "Operations that ended, by kind and status."}, []string{"kind", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "novacron_operation_duration_seconds",
			Help: "Time from the request to the end of an operation, in seconds.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 16)}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_operation_step_failures_total",
			Help: "Attempts at a step, or at its undo, that failed."}, []string{"kind", "step"}),
		live: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "novacron_operation_live",
			Help: "Operations that have not ended, by kind, in the whole installation."}, []string{"kind"}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(share(r, &m.endedTotal), share(r, &m.duration), share(r, &m.failures), share(r, &m.live))
}

// share registers a collector, or takes the one that another engine has registered.
func share[C prometheus.Collector](r prometheus.Registerer, c *C) error {
	err := r.Register(*c)
	if exists, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := exists.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("register metric: %w", err)
	}
	return nil
}

// ended counts an operation. Those that end in a caller's transaction are counted before its commit; one that is rolled back stays.
func (m *metrics) ended(op Operation) {
	m.endedTotal.WithLabelValues(op.Kind, string(op.Status)).Inc()
	if op.EndedAt != nil {
		m.duration.WithLabelValues(op.Kind).Observe(max(op.EndedAt.Sub(op.CreatedAt), time.Duration(0)).Seconds())
	}
}

func (m *metrics) stepFailed(kind, step string) { m.failures.WithLabelValues(kind, step).Inc() }
