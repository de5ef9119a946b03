package vmmodule

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/vm/internal/service"
)

// storageMetrics tell how much there is of volumes and snapshots, as of the last sweep.
type storageMetrics struct {
	registry prometheus.Registerer // nil: none
	gauges   []prometheus.Gauge    // in the order of their names below
}

func newStorageMetrics(registry prometheus.Registerer) (*storageMetrics, error) {
	m := &storageMetrics{registry: registry}
	for _, g := range []prometheus.GaugeOpts{
		{Name: "novacron_vm_volumes", Help: "Volumes of all tenants."},
		{Name: "novacron_vm_volume_size_bytes", Help: "What the volumes of all tenants promise their guests."},
		{Name: "novacron_vm_volume_allocated_bytes", Help: "What the files of all volumes take on their nodes."},
		{Name: "novacron_vm_snapshots", Help: "Snapshots of all tenants."},
		{Name: "novacron_vm_snapshot_size_bytes", Help: "What the snapshots of all tenants are charged with."},
	} {
		m.gauges = append(m.gauges, prometheus.NewGauge(g))
	}
	if registry == nil {
		return m, nil
	}
	for _, g := range m.gauges {
		if err := registry.Register(g); err != nil {
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *storageMetrics) update(ctx context.Context, svc *service.Service) error {
	t, err := svc.StorageTotals(ctx)
	if err != nil {
		return err
	}
	for i, v := range []int64{t.Volumes, t.VolumeBytes, t.VolumeAllocatedBytes, t.Snapshots, t.SnapshotBytes} {
		m.gauges[i].Set(float64(v))
	}
	return nil
}

func (m *storageMetrics) unregister() {
	if m == nil || m.registry == nil {
		return
	}
	for _, g := range m.gauges {
		m.registry.Unregister(g)
	}
}
