package service

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// samples are the latest measurements of guests as their nodes told them. They live in this process only: after a start they are there again
// within an interval.
type samples struct {
	mu     sync.Mutex // guards what follows
	latest map[uuid.UUID]sample
	swept  time.Time
}

type sample struct {
	event.VMSample
	node    uuid.UUID
	expires time.Time // by this process's clock
}

// A sample is shown until three more should have come, and for a minute at least.
const (
	sampleIntervals = 3
	sampleMin       = time.Minute
	sampleMax       = time.Hour
)

func (s *samples) add(e event.VMMetrics, now time.Time) {
	age := max(sampleMin, min(time.Duration(sampleIntervals*e.IntervalSeconds*float64(time.Second)), sampleMax))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == nil {
		s.latest = map[uuid.UUID]sample{}
	}
	for _, one := range e.Samples {
		s.latest[one.VMID] = sample{VMSample: one, node: e.NodeID, expires: now.Add(age)}
	}
	if now.Sub(s.swept) < sampleMin {
		return
	}
	s.swept = now
	for id, one := range s.latest {
		if now.After(one.expires) {
			delete(s.latest, id)
		}
	}
}

// of gives the sample of a guest by the node that has it: nobody else can know.
func (s *samples) of(id, node uuid.UUID, now time.Time) (sample, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.latest[id]
	return one, ok && one.node == node && !now.After(one.expires)
}

// WatchMetrics takes in what nodes measure. It goes on until the subscription is closed.
func (s *Service) WatchMetrics(b bus.Bus) (bus.Subscription, error) {
	return bus.NewTopic[event.VMMetrics](bus.SubjectVMMetrics).Subscribe(b, bus.SubscribeOptions{}, func(_ context.Context, e event.VMMetrics) {
		s.measured.add(e, time.Now())
	})
}

// Metrics gives the latest sample of a virtual machine that is on.
func (s *Service) Metrics(ctx context.Context, id uuid.UUID) (vm.Metrics, error) {
	r, err := s.record(ctx, id)
	if err != nil {
		return vm.Metrics{}, err
	}
	return s.metricsOf(r)
}

func (s *Service) metricsOf(r store.Record) (vm.Metrics, error) {
	if r.State != vm.StateRunning && r.State != vm.StatePaused && r.State != vm.StateMigrating || r.NodeID == nil {
		return vm.Metrics{}, wrongState(r, "measured", "running or paused")
	}
	m, ok := s.measured.of(r.ID, *r.NodeID, time.Now())
	if !ok {
		return vm.Metrics{}, vm.ErrNoMetrics
	}
	return vm.Metrics{VMID: r.ID, NodeID: m.node, Time: m.Time, CPUUsage: m.CPUUsage, MemoryUsage: m.MemoryUsage, NetworkBytesSent: m.NetworkBytesSent,
		NetworkBytesRecv: m.NetworkBytesRecv, DiskReadBytes: m.DiskReadBytes, DiskWriteBytes: m.DiskWriteBytes, DiskUsagePercentage: m.DiskUsagePercentage,
		VCPUs: m.VCPUs, CPUSeconds: float64(m.CPUTimeNS) / 1e9, MemoryBytes: m.MemoryBytes, MemoryRSSBytes: m.MemoryRSSBytes, MemoryUsableBytes: m.MemoryUsableBytes,
		DiskBytes: m.DiskBytes, DiskAllocatedBytes: m.DiskAllocatedBytes}, nil
}
