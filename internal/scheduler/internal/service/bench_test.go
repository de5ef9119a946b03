package service_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/schedulertest"
)

// BenchmarkReserve measures one reservation and its release, on real PostgreSQL.
func BenchmarkReserve(b *testing.B) {
	for _, nodes := range []int{1, 1000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := newRig(b)
			for i := range nodes {
				r.heartbeat(schedulertest.Heartbeat(fmt.Sprintf("kvm-%04d", i), 64, 256*gib, 4096*gib))
			}
			r.exec("ANALYZE nodes")
			tenant := uuid.New()
			b.ResetTimer()
			for b.Loop() {
				req := schedulertest.Request(tenant)
				if _, err := r.Reserve(b.Context(), req); err != nil {
					b.Fatal(err)
				}
				if _, err := r.Release(b.Context(), scheduler.ReleaseRequest{VMID: req.VMID}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
