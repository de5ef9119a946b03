package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// metrics are the node's own; they work also when nobody collects them.
type metrics struct {
	registry prometheus.Registerer // nil: none
	all      []prometheus.Collector

	commands *prometheus.CounterVec
	duration *prometheus.HistogramVec
	repeated prometheus.Counter
	connects prometheus.Counter

	evictions        prometheus.Counter
	evictedBytes     prometheus.Counter
	firewallRepairs  prometheus.Counter
	firewallFailures prometheus.Counter
	pause            prometheus.Histogram

	guests guestMetrics
}

func newMetrics(registry prometheus.Registerer, count func() map[nodeapi.Observed]int, perVM bool) (*metrics, error) {
	m := &metrics{
		registry: registry,
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "novacron_vm_node_commands_total", Help: "Commands that the node carried out, by verb and by the code of their error, or ok.",
		}, []string{"verb", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "novacron_vm_node_command_duration_seconds", Help: "How long commands took, their waiting for their turn included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"verb"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "novacron_vm_node_reports_repeated_total", Help: "Attempts to report that were not acknowledged.",
		}),
		connects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "novacron_vm_node_hypervisor_connects_total", Help: "Connections to the hypervisor; all but the first are reconnections.",
		}),
		firewallRepairs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "novacron_vm_node_firewall_repairs_total", Help: "Times that the protection of guests had been changed from outside, or was not in force, and was put in force again.",
		}),
		firewallFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "novacron_vm_node_firewall_failures_total", Help: "Failed attempts to put the protection of guests in force.",
		}),
	}
	m.pause = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "novacron_vm_node_snapshot_pause_seconds", Help: "How long guests were held while snapshots of them were taken.",
		Buckets: prometheus.ExponentialBuckets(0.005, 3, 10),
	})
	m.evictions = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "novacron_vm_node_image_evictions_total", Help: "Images that made room in the node's cache.",
	})
	m.evictedBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "novacron_vm_node_image_evicted_bytes_total", Help: "What those images took.",
	})
	m.all = []prometheus.Collector{m.evictions, m.evictedBytes, m.commands, m.duration, m.repeated, m.connects, m.pause, m.firewallRepairs, m.firewallFailures}
	m.guests = newGuestMetrics(perVM)
	m.all = append(m.all, m.guests.collectors()...)
	for _, state := range []nodeapi.Observed{
		nodeapi.ObservedRunning, nodeapi.ObservedPaused, nodeapi.ObservedStopped, nodeapi.ObservedCrashed,
	} {
		m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "novacron_vm_node_domains", Help: "Virtual machines on the node, by state.",
			ConstLabels: prometheus.Labels{"state": string(state)},
		}, func() float64 { return float64(count()[state]) }))
	}
	if registry == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := registry.Register(c); err != nil {
			for _, done := range m.all[:i] {
				registry.Unregister(done)
			}
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}

// command counts one command. Verbs that do not exist share a label, or a stranger could fill the memory with them.
func (m *metrics) command(verb, result string, took time.Duration) {
	if result == nodeapi.ErrUnknownVerb.Code {
		verb = "unknown"
	}
	m.commands.WithLabelValues(verb, result).Inc()
	m.duration.WithLabelValues(verb).Observe(took.Seconds())
}

// count counts the virtual machines by state.
func (w *watch) count() map[nodeapi.Observed]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[nodeapi.Observed]int{}
	for _, s := range w.vms {
		counts[s.status.Observed]++
	}
	return counts
}

// evictedImage counts an image that made room. At the very start nobody counts yet.
func (m *metrics) evictedImage(bytes int64) {
	if m == nil {
		return
	}
	m.evictions.Inc()
	m.evictedBytes.Add(float64(bytes))
}
