package node

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// samplesInAMessage bounds a message of vm.metrics; a sample takes some 500 bytes of JSON, and NATS takes no message above 1 MiB.
const samplesInAMessage = 1000

// meter remembers what the next measurement is compared with. Only the loop uses it.
type meter struct {
	before map[uuid.UUID]cpuReading
}

type cpuReading struct {
	time int64 // ns
	at   time.Time
}

// meterLoop measures all guests every interval.
func (n *Node) meterLoop(ctx context.Context) {
	tick := time.NewTicker(n.cfg.MetricsInterval)
	defer tick.Stop()
	m := &meter{before: map[uuid.UUID]cpuReading{}}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !n.connected.Load() || !n.acked.Load() {
			continue
		}
		if err := n.measure(ctx, m); err != nil && ctx.Err() == nil {
			n.cfg.Log.Warn("the virtual machines could not be measured", "error", err)
		}
	}
}

// measure takes one sample of every guest that is on, in one call, and publishes them.
func (n *Node) measure(ctx context.Context, m *meter) error {
	bounded, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	begin := time.Now()
	list, err := n.cfg.Driver.Stats(bounded)
	if err != nil {
		n.metrics.scraped("failed", time.Since(begin), nil)
		return err
	}
	samples, result := m.samples(n.watch.ours(list), time.Now()), "full"
	for _, s := range samples {
		if s.Partial {
			result = "partial"
		}
	}
	n.metrics.scraped(result, time.Since(begin), samples)
	for len(samples) > 0 {
		part := samples[:min(len(samples), samplesInAMessage)]
		samples = samples[len(part):]
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		e := event.VMMetrics{ID: id, NodeID: n.cfg.NodeID, Timestamp: begin.UTC(), IntervalSeconds: n.cfg.MetricsInterval.Seconds(), Samples: part}
		if err := bus.NewTopic[event.VMMetrics](bus.SubjectVMMetrics).Publish(ctx, n.cfg.Bus, e); err != nil {
			return err
		}
	}
	return nil
}

// ours leaves out the guests of other installations, and those that the node does not know yet.
func (w *watch) ours(list []driver.Stats) []driver.Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := make([]driver.Stats, 0, len(list))
	for _, s := range list {
		if w.vms[s.VMID] != nil {
			known = append(known, s)
		}
	}
	return known
}

// samples makes what is published of what was measured, and forgets guests that are off.
func (m *meter) samples(list []driver.Stats, now time.Time) []event.VMSample {
	samples := make([]event.VMSample, len(list))
	next := make(map[uuid.UUID]cpuReading, len(list))
	for i, s := range list {
		samples[i] = sampleOf(s, now)
		if before, ok := m.before[s.VMID]; ok && s.VCPUs > 0 && s.CPUTime >= before.time && now.After(before.at) {
			samples[i].CPUUsage = percent(float64(s.CPUTime-before.time), float64(now.Sub(before.at).Nanoseconds())*float64(s.VCPUs))
		}
		next[s.VMID] = cpuReading{s.CPUTime, now}
	}
	m.before = next
	return samples
}

func sampleOf(s driver.Stats, now time.Time) event.VMSample {
	e := event.VMSample{Time: now.UTC(), VMID: s.VMID, Partial: s.Partial, VCPUs: s.VCPUs, CPUTimeNS: s.CPUTime,
		NetworkBytesSent: s.NetSent, NetworkBytesRecv: s.NetRecv, DiskReadBytes: s.DiskRead, DiskWriteBytes: s.DiskWritten,
		MemoryBytes: s.Memory, MemoryRSSBytes: s.RSS, MemoryUsableBytes: s.Usable, DiskBytes: s.DiskCapacity, DiskAllocatedBytes: s.DiskAllocated}
	switch {
	case s.Available != nil && s.Usable != nil && *s.Available > 0:
		e.MemoryUsage = percent(float64(*s.Available-*s.Usable), float64(*s.Available))
	case s.RSS != nil && s.Memory != nil:
		e.MemoryUsage = percent(float64(*s.RSS), float64(*s.Memory))
	}
	if s.DiskAllocated != nil && s.DiskCapacity != nil {
		e.DiskUsagePercentage = percent(float64(*s.DiskAllocated), float64(*s.DiskCapacity))
	}
	return e
}

// percent gives part of whole, from 0 to 100: measurements are not taken at one and the same moment, and a guest may lie.
func percent(part, whole float64) *float64 {
	if whole <= 0 {
		return nil
	}
	p := max(0, min(100*part/whole, 100))
	return &p
}
