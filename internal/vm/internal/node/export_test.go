package node

import (
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// MeasureRepeatedly runs measurements of guests that a node knows.
func MeasureRepeatedly(b *testing.B, d driver.Driver, ids []uuid.UUID) {
	n := New(Config{NodeID: uuid.New(), Driver: d, Bus: membus.New()})
	defer n.cfg.Bus.Close()
	var err error
	if n.metrics, err = newMetrics(nil, n.watch.count, false); err != nil {
		b.Fatal(err)
	}
	for _, id := range ids {
		n.watch.vms[id] = &seen{}
	}
	m := &meter{before: map[uuid.UUID]cpuReading{}}
	for b.Loop() {
		if err := n.measure(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(ids)), "µs/guest")
}
