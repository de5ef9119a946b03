package node

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// guestMetrics tell of guests: how they are asked and measured and, where that is wanted, what was measured of each.
type guestMetrics struct {
	asks     *prometheus.CounterVec
	scrapes  *prometheus.CounterVec
	duration prometheus.Histogram
	measured prometheus.Gauge
	each     *eachGuest // nil: no series for each guest
}

func newGuestMetrics(perVM bool) guestMetrics {
	m := guestMetrics{
		asks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "novacron_vm_node_agent_questions_total",
			Help: "Questions to guest agents, by result: ok, refused by the agent, absent, silent (it hangs), busy, error.",
		}, []string{"result"}),
		scrapes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "novacron_vm_node_scrapes_total", Help: "Measurements of all guests at once, by result: full, partial (a guest hangs), failed.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "novacron_vm_node_scrape_duration_seconds", Help: "How long it took to measure all guests.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		measured: prometheus.NewGauge(prometheus.GaugeOpts{Name: "novacron_vm_node_scraped_guests", Help: "Guests that the last measurement was of."}),
	}
	if perVM {
		m.each = newEachGuest()
	}
	return m
}

func (m guestMetrics) collectors() []prometheus.Collector {
	all := []prometheus.Collector{m.asks, m.scrapes, m.duration, m.measured}
	if m.each != nil {
		all = append(all, m.each)
	}
	return all
}

// asked counts a question to a guest agent.
func (m *metrics) asked(err error) {
	var refusal *driver.AgentRefusal
	result := "error"
	switch {
	case err == nil:
		result = "ok"
	case errors.As(err, &refusal):
		result = "refused"
	case errors.Is(err, driver.ErrNoAgent):
		result = "absent"
	case errors.Is(err, driver.ErrAgentSilent):
		result = "silent"
	case errors.Is(err, driver.ErrAgentBusy):
		result = "busy"
	case errors.Is(err, context.Canceled):
		result = "canceled"
	}
	m.guests.asks.WithLabelValues(result).Inc()
}

// scraped notes a measurement of all guests.
func (m *metrics) scraped(result string, took time.Duration, samples []event.VMSample) {
	m.guests.scrapes.WithLabelValues(result).Inc()
	m.guests.duration.Observe(took.Seconds())
	m.guests.measured.Set(float64(len(samples)))
	if m.guests.each != nil {
		m.guests.each.last.Store(&samples)
	}
}

// eachGuest has the series of each guest that was measured last. Those of guests that are off are gone, so there are never more than guests
// on the node, and of very many only the first maxEach are shown.
type eachGuest struct {
	last   atomic.Pointer[[]event.VMSample]
	series []guestSeries
}

type guestSeries struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(event.VMSample) (float64, bool)
}

const maxEach = 2000

func newEachGuest() *eachGuest {
	e := &eachGuest{}
	add := func(name, help string, kind prometheus.ValueType, value func(event.VMSample) (float64, bool)) {
		e.series = append(e.series, guestSeries{prometheus.NewDesc("novacron_vm_guest_"+name, help, []string{"vm_id"}, nil), kind, value})
	}
	whole := func(of func(event.VMSample) *int64) func(event.VMSample) (float64, bool) {
		return func(s event.VMSample) (float64, bool) {
			v := of(s)
			if v == nil {
				return 0, false
			}
			return float64(*v), true
		}
	}
	add("cpu_seconds_total", "Time of the guest on processors of the node.", prometheus.CounterValue, func(s event.VMSample) (float64, bool) { return float64(s.CPUTimeNS) / 1e9, true })
	add("memory_bytes", "Memory that the balloon leaves to the guest.", prometheus.GaugeValue, whole(func(s event.VMSample) *int64 { return s.MemoryBytes }))
	add("memory_rss_bytes", "Memory of the node that the guest holds.", prometheus.GaugeValue, whole(func(s event.VMSample) *int64 { return s.MemoryRSSBytes }))
	add("network_sent_bytes_total", "What the guest sent.", prometheus.CounterValue, whole(func(s event.VMSample) *int64 { return s.NetworkBytesSent }))
	add("network_received_bytes_total", "What the guest received.", prometheus.CounterValue, whole(func(s event.VMSample) *int64 { return s.NetworkBytesRecv }))
	add("disk_read_bytes_total", "What the guest read from its disks.", prometheus.CounterValue, whole(func(s event.VMSample) *int64 { return s.DiskReadBytes }))
	add("disk_written_bytes_total", "What the guest wrote to its disks.", prometheus.CounterValue, whole(func(s event.VMSample) *int64 { return s.DiskWriteBytes }))
	add("disk_allocated_bytes", "What the files of its disks take on the node.", prometheus.GaugeValue, whole(func(s event.VMSample) *int64 { return s.DiskAllocatedBytes }))
	return e
}

// Describe implements prometheus.Collector.
func (e *eachGuest) Describe(to chan<- *prometheus.Desc) {
	for _, s := range e.series {
		to <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (e *eachGuest) Collect(to chan<- prometheus.Metric) {
	last := e.last.Load()
	if last == nil {
		return
	}
	for _, sample := range (*last)[:min(len(*last), maxEach)] {
		id := sample.VMID.String()
		for _, s := range e.series {
			if v, ok := s.value(sample); ok {
				to <- prometheus.MustNewConstMetric(s.desc, s.kind, v, id)
			}
		}
	}
}
