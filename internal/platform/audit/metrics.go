package audit

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/bus/event"
)

type metrics struct {
	records  *prometheus.CounterVec
	dropped  prometheus.Counter
	failures prometheus.Counter
}

// newMetrics registers the recorder's metrics, told apart by the module. A module that is built twice goes on with the first ones.
func newMetrics(module string, r prometheus.Registerer) (*metrics, error) {
	label := prometheus.Labels{"module": module}
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_audit_records_total", ConstLabels: label,
			Help: "Audit records written by result: success, refused, failed, error or unknown."}, []string{"result"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "novacron_audit_refusals_counted_total", ConstLabels: label,
			Help: "Refused calls that were counted instead of recorded, because there were too many."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "novacron_audit_write_failures_total", ConstLabels: label,
			Help: "Attempts to write an intent or a record that failed."}),
	}
	if r == nil {
		return m, nil
	}
	for _, register := range []func() error{
		func() error { return registerOr(r, m.records, &m.records) },
		func() error { return registerOr(r, m.dropped, &m.dropped) },
		func() error { return registerOr(r, m.failures, &m.failures) },
	} {
		if err := register(); err != nil {
			return nil, fmt.Errorf("register the audit metrics of %s: %w", module, err)
		}
	}
	return m, nil
}

func registerOr[C prometheus.Collector](r prometheus.Registerer, c C, use *C) error {
	err := r.Register(c)
	var before prometheus.AlreadyRegisteredError
	if errors.As(err, &before) {
		if same, ok := before.ExistingCollector.(C); ok {
			*use = same
			return nil
		}
	}
	return err
}

func (m *metrics) count(r event.Audit) { m.records.WithLabelValues(r.Result).Inc() }
