package service_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/service"
	"github.com/novacron/novacron/internal/scheduler/internal/store"
	"github.com/novacron/novacron/internal/scheduler/schedulertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Wrap(m)) }

const gib = int64(1) << 30

// rig is a scheduler over a database of its own.
type rig struct {
	*service.Service
	t      testing.TB
	pool   *pgxpool.Pool
	counts *counts
}

func newRig(t testing.TB, change ...func(*store.Config)) *rig {
	t.Helper()
	migrations, err := db.Migrations("scheduler")
	if err != nil {
		t.Fatal(err)
	}
	cfg := store.Config{Policy: placement.Policy{OvercommitVCPU: 16, OvercommitMemory: 1, NodeTimeout: time.Hour}}
	for _, c := range change {
		c(&cfg)
	}
	r := &rig{t: t, pool: pgtest.New(t, pgtest.Schema{Name: "scheduler", Migrations: migrations}).Pool("scheduler"), counts: &counts{}}
	st := store.New(cfg)
	st.Attach(r.pool)
	r.Service = service.New(service.Config{Policy: cfg.Policy, ReservationTTL: 10 * time.Minute}, st, r.counts, slog.New(slog.DiscardHandler))
	return r
}

// exec runs SQL.
func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.pool.Exec(context.Background(), sql, args...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

func (r *rig) expire(vmID uuid.UUID) {
	r.exec("UPDATE resource_allocations SET expires_at = now() - interval '1 second' WHERE vm_id = $1 AND status = 'reserved'", vmID)
}

func (r *rig) heartbeat(h event.NodeHeartbeat) { r.Heartbeat(context.Background(), h) }

func (r *rig) node(id uuid.UUID) scheduler.Node {
	r.t.Helper()
	resp, err := r.GetNode(context.Background(), scheduler.GetNodeRequest{NodeID: id})
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.Node
}

// drift lists every counter that is not the sum of its allocations.
const drift = `
SELECT 'node ' || n.name || ': ' || format('%s/%s/%s/%s', n.cpu_allocated, n.memory_allocated, n.storage_allocated, n.vms) || ' counted, '
    || format('%s/%s/%s/%s', s.v, s.m, s.d, s.n) || ' held'
FROM nodes n, LATERAL (SELECT coalesce(sum(cpu_allocated), 0) v, coalesce(sum(memory_allocated), 0) m, coalesce(sum(storage_allocated), 0) d, count(*) FILTER (WHERE kind = 'vm') n
    FROM resource_allocations a WHERE a.node_id = n.id) s
WHERE (n.cpu_allocated, n.memory_allocated, n.storage_allocated, n.vms) <> (s.v, s.m, s.d, s.n)
UNION ALL
SELECT 'tenant ' || t.tenant_id || ': ' || format('%s/%s/%s/%s', coalesce(u.vcpus, 0), coalesce(u.memory_bytes, 0), coalesce(u.storage_bytes, 0), coalesce(u.vms, 0)) || ' counted, '
    || format('%s/%s/%s/%s', s.v, s.m, s.d, s.n) || ' held'
FROM (SELECT tenant_id FROM quota_usage UNION SELECT tenant_id FROM resource_allocations) t
LEFT JOIN quota_usage u USING (tenant_id),
LATERAL (SELECT coalesce(sum(cpu_allocated), 0) v, coalesce(sum(memory_allocated), 0) m, coalesce(sum(storage_allocated), 0) d, count(*) FILTER (WHERE kind = 'vm') n
    FROM resource_allocations a WHERE a.tenant_id = t.tenant_id) s
WHERE (coalesce(u.vcpus, 0), coalesce(u.memory_bytes, 0), coalesce(u.storage_bytes, 0), coalesce(u.vms, 0)) <> (s.v, s.m, s.d, s.n)`

// fataler is *testing.T or *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// noDrift checks the module's invariant.
func (r *rig) noDrift(t fataler) {
	t.Helper()
	rows, err := r.pool.Query(context.Background(), drift)
	if err != nil {
		t.Fatalf("look for drift: %v", err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatalf("look for drift: %v", err)
		}
		t.Fatalf("drift: %s", line)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("look for drift: %v", err)
	}
}

func (r *rig) subject(t *testing.T) schedulertest.Subject {
	t.Cleanup(func() { r.noDrift(t) })
	platform := identity.With(context.Background(), identity.Principal{Permissions: []string{"*"}, Scope: identity.ScopePlatform})
	return schedulertest.Subject{
		Service: r, Heartbeat: r.heartbeat, Expire: r.expire,
		SetQuota: func(tenant uuid.UUID, q scheduler.Quota) {
			if _, err := r.SetQuota(platform, tenant, q, nil); err != nil {
				t.Error(err)
			}
		},
		Sweep: func() {
			if err := r.SweepOnce(context.Background()); err != nil {
				t.Error(err)
			}
		},
	}
}

// counts is a Recorder.
type counts struct {
	mu sync.Mutex
	of map[string]int
}

func (c *counts) Reserved(result string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[result]++
}
