package schedulermodule_test

import (
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/schedulermodule"
	"github.com/novacron/novacron/internal/scheduler/schedulertest"
)

func TestConfig(t *testing.T) {
	if failed := schedulermodule.Default().Validate(); failed != nil {
		t.Errorf("the default is wrong: %v", failed)
	}
	for path, change := range map[string]func(*schedulermodule.Config){
		"overcommit_vcpu":       func(c *schedulermodule.Config) { c.OvercommitVCPU = math.NaN() },
		"overcommit_memory":     func(c *schedulermodule.Config) { c.OvercommitMemory = 0 },
		"memory_reserve_bytes":  func(c *schedulermodule.Config) { c.MemoryReserveBytes = -1 },
		"storage_reserve_bytes": func(c *schedulermodule.Config) { c.StorageReserveBytes = -1 },
		"reservation_ttl":       func(c *schedulermodule.Config) { c.ReservationTTL = 0 },
		"sweep_interval":        func(c *schedulermodule.Config) { c.SweepInterval = 0 },
		"node_timeout":          func(c *schedulermodule.Config) { c.NodeTimeout = 0 },
		"max_conns":             func(c *schedulermodule.Config) { c.MaxConns = -1 },
		"default_quota":         func(c *schedulermodule.Config) { c.DefaultQuota.VMs = -1 },
	} {
		cfg := schedulermodule.Default()
		change(&cfg)
		failed := cfg.Validate()
		if len(failed) != 1 || !strings.HasPrefix(failed[0].Error(), "scheduler."+path+": ") {
			t.Errorf("%s: %v", path, failed)
		}
		if _, err := schedulermodule.New(cfg, schedulermodule.Deps{Bus: membus.New(), Log: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("%s: a module was made", path)
		}
	}
}

func TestLifecycle(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if err := r.Start(ctx); err != nil {
		t.Errorf("second start: %v", err)
	}
	if err := r.Ready(ctx); err != nil {
		t.Errorf("ready: %v", err)
	}
	node := schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib)
	r.register(node)
	for range 2 {
		if err := r.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if err := r.Ready(ctx); !errors.Is(err, scheduler.ErrNotRunning) {
		t.Errorf("ready after stop: %v", err)
	}
	r.expect(503, "scheduler.not_running", admin, "GET", "/api/v1/nodes", nil)
	if err := r.Start(ctx); err != nil {
		t.Fatalf("start after stop: %v", err)
	}
	if _, err := r.Service().GetNode(ctx, scheduler.GetNodeRequest{NodeID: node.NodeID}); err != nil {
		t.Errorf("the node is forgotten: %v", err)
	}
}

func TestStartFails(t *testing.T) {
	cfg := schedulermodule.Default()
	cfg.DatabaseURL = "postgres://nobody@127.0.0.1:1/none?connect_timeout=1"
	b := membus.New()
	defer func() { _ = b.Close() }() // closing a bus in memory cannot fail
	m, err := schedulermodule.New(cfg, schedulermodule.Deps{Bus: b, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "database") {
		t.Errorf("start without a database: %v", err)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// TestSweep waits for the module itself to give back what nobody confirms.
func TestSweep(t *testing.T) {
	r := newRig(t)
	node := schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib)
	r.register(node)
	req := schedulertest.Request(uuid.New())
	req.TTL = time.Second
	if _, err := r.Service().Reserve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	r.eventually("the reservation is given back", func() bool {
		_, err := r.Service().GetAllocation(t.Context(), scheduler.GetAllocationRequest{VMID: req.VMID})
		return errors.Is(err, scheduler.ErrAllocationNotFound)
	})
	got, err := r.Service().GetNode(t.Context(), scheduler.GetNodeRequest{NodeID: node.NodeID})
	if err != nil || got.Node.Allocated != (scheduler.Resources{}) {
		t.Errorf("still counted: %+v, %v", got.Node.Allocated, err)
	}
}

func TestMetrics(t *testing.T) {
	r := newRig(t)
	node := schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib)
	r.register(node)
	if _, err := r.Service().Reserve(t.Context(), schedulertest.Request(uuid.New())); err != nil {
		t.Fatal(err)
	}
	large := schedulertest.Request(uuid.New())
	large.VCPUs = 1000
	if _, err := r.Service().Reserve(t.Context(), large); !errors.Is(err, scheduler.ErrNoFit) {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`
# HELP novacron_scheduler_node_allocated How much of a node is allocated, by resource.
# TYPE novacron_scheduler_node_allocated gauge
novacron_scheduler_node_allocated{node="kvm-1",node_id="ID",resource="memory_bytes"} 1.073741824e+09
novacron_scheduler_node_allocated{node="kvm-1",node_id="ID",resource="storage_bytes"} 1.073741824e+09
novacron_scheduler_node_allocated{node="kvm-1",node_id="ID",resource="vcpus"} 1
# HELP novacron_scheduler_node_ready 1 where the node's heartbeat is fresh, else 0.
# TYPE novacron_scheduler_node_ready gauge
novacron_scheduler_node_ready{node="kvm-1",node_id="ID"} 1
# HELP novacron_scheduler_reservations_total Reservations by result: reserved, existing, no_fit, quota_exceeded, refused, failed.
# TYPE novacron_scheduler_reservations_total counter
novacron_scheduler_reservations_total{result="no_fit"} 1
novacron_scheduler_reservations_total{result="reserved"} 1
`, "ID", node.NodeID.String())
	r.eventually("the metrics tell so", func() bool {
		return testutil.GatherAndCompare(r.registry, strings.NewReader(want), "novacron_scheduler_node_allocated", "novacron_scheduler_node_ready",
			"novacron_scheduler_reservations_total") == nil
	})
	if n, err := testutil.GatherAndCount(r.registry, "novacron_scheduler_reserve_duration_seconds", "novacron_scheduler_node_capacity", "novacron_scheduler_node_limit"); err != nil || n != 7 {
		t.Errorf("%d further series, %v", n, err)
	}
}

func TestErrors(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range schedulermodule.Errors() {
		if !strings.HasPrefix(e.Code, "scheduler.") || seen[e.Code] || e.Message == "" {
			t.Errorf("error %+v", e)
		}
		seen[e.Code] = true
	}
}
