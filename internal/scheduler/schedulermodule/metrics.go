package schedulermodule

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/scheduler"
)

// metrics tells Prometheus of reservations as they happen and of nodes as the last sweep saw them: a scrape never waits for the database.
type metrics struct {
	reservations *prometheus.CounterVec
	duration     prometheus.Histogram
	capacity     *prometheus.Desc
	limit        *prometheus.Desc
	allocated    *prometheus.Desc
	ready        *prometheus.Desc
	nodes        atomic.Pointer[[]scheduler.Node]
}

func newMetrics() *metrics {
	node := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("novacron_scheduler_node_"+name, help, append([]string{"node_id", "node"}, labels...), nil)
	}
	return &metrics{
		reservations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "novacron_scheduler_reservations_total",
			Help: "Reservations by result: reserved, existing, no_fit, quota_exceeded, refused, failed.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "novacron_scheduler_reserve_duration_seconds", Help: "How long a reservation took, whatever its result.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}),
		capacity:  node("capacity", "What a node has, by resource: vcpus (hardware threads), memory_bytes, storage_bytes.", "resource"),
		limit:     node("limit", "How much of a node may be allocated, by resource.", "resource"),
		allocated: node("allocated", "How much of a node is allocated, by resource.", "resource"),
		ready:     node("ready", "1 where the node's heartbeat is fresh, else 0."),
	}
}

// Reserved implements service.Recorder.
func (m *metrics) Reserved(result string, took time.Duration) {
	m.reservations.WithLabelValues(result).Inc()
	m.duration.Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.reservations.Describe(ch)
	m.duration.Describe(ch)
	for _, d := range []*prometheus.Desc{m.capacity, m.limit, m.allocated, m.ready} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.reservations.Collect(ch)
	m.duration.Collect(ch)
	nodes := m.nodes.Load()
	if nodes == nil {
		return
	}
	for _, n := range *nodes {
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{n.ID.String(), n.Name}, labels...)...)
		}
		amounts := func(d *prometheus.Desc, r scheduler.Resources) {
			gauge(d, float64(r.VCPUs), "vcpus")
			gauge(d, float64(r.MemoryBytes), "memory_bytes")
			gauge(d, float64(r.StorageBytes), "storage_bytes")
		}
		amounts(m.capacity, n.Capacity)
		amounts(m.limit, n.Limits)
		amounts(m.allocated, n.Allocated)
		ready := 0.0
		if n.State == scheduler.NodeReady {
			ready = 1
		}
		gauge(m.ready, ready)
	}
}
