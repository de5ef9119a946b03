package schedulermodule

import (
	"fmt"
	"time"

	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
)

// Config is what the module is told at start.
type Config struct {
	DatabaseURL string // of a login that may create the module's role and schema
	MaxConns    int32  // connections to the database; 0: the pool's default

	OvercommitVCPU      float64 // virtual CPUs that may be promised for each hardware thread
	OvercommitMemory    float64 // bytes of memory that may be promised for each byte a node has beyond MemoryReserveBytes
	MemoryReserveBytes  int64   // memory of each node that stays with the host
	StorageReserveBytes int64   // storage of each node that is never promised; below so much free space a node gets no new machines

	ReservationTTL time.Duration // after which an unconfirmed reservation is given back, where the caller names no time
	SweepInterval  time.Duration // between two looks for such reservations
	NodeTimeout    time.Duration // a node is unreachable when its last heartbeat is older

	DefaultQuota scheduler.Quota // of every tenant without one of its own; 0 means unlimited
}

// Default gives the configuration of a single host.
func Default() Config {
	return Config{
		OvercommitVCPU: 16, OvercommitMemory: 1, MemoryReserveBytes: 512 << 20, StorageReserveBytes: 1 << 30,
		ReservationTTL: 10 * time.Minute, SweepInterval: 5 * time.Second, NodeTimeout: 30 * time.Second,
	}
}

// The bounds of the configuration.
const (
	maxOvercommitVCPU   = 256
	maxOvercommitMemory = 16
)

// Validate lists every mistake.
func (c Config) Validate() []error {
	var failed []error
	check := func(ok bool, path, rule string) {
		if !ok {
			failed = append(failed, fmt.Errorf("scheduler.%s: %s", path, rule))
		}
	}
	// The conditions are put so that NaN fails them too.
	check(c.OvercommitVCPU > 0 && c.OvercommitVCPU <= maxOvercommitVCPU, "overcommit_vcpu", fmt.Sprintf("must be above 0 and at most %d", maxOvercommitVCPU))
	check(c.OvercommitMemory > 0 && c.OvercommitMemory <= maxOvercommitMemory, "overcommit_memory", fmt.Sprintf("must be above 0 and at most %d", maxOvercommitMemory))
	check(c.MemoryReserveBytes >= 0, "memory_reserve_bytes", "must not be negative")
	check(c.StorageReserveBytes >= 0, "storage_reserve_bytes", "must not be negative")
	check(c.ReservationTTL >= time.Second && c.ReservationTTL <= 24*time.Hour, "reservation_ttl", "must be from 1s to 24h")
	check(c.SweepInterval >= 100*time.Millisecond && c.SweepInterval <= time.Hour, "sweep_interval", "must be from 100ms to 1h")
	check(c.NodeTimeout >= time.Second && c.NodeTimeout <= 24*time.Hour, "node_timeout", "must be from 1s to 24h")
	check(c.MaxConns >= 0, "max_conns", "must not be negative")
	q := c.DefaultQuota
	check(q.VCPUs >= 0 && q.MemoryBytes >= 0 && q.StorageBytes >= 0 && q.VMs >= 0, "default_quota", "must not be negative; 0 means unlimited")
	return failed
}

func (c Config) policy() placement.Policy {
	return placement.Policy{OvercommitVCPU: c.OvercommitVCPU, OvercommitMemory: c.OvercommitMemory, MemoryReserve: c.MemoryReserveBytes,
		StorageReserve: c.StorageReserveBytes, NodeTimeout: c.NodeTimeout}
}
