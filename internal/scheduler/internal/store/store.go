// Package store keeps the scheduler's rows: nodes, allocations, quotas and their counters. It is the only package of the module that sees
// a transaction.
//
// Every transaction that changes counters takes its locks in one order, so that none can wait for another in a circle: the tenant's row
// of quota_usage, then the allocation, then one node. All times are the database's, so that several schedulers agree about expiry.
package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/schedulerdb"
)

// Config is what the store decides by.
type Config struct {
	Policy       placement.Policy
	DefaultQuota scheduler.Quota // of tenants without a quota of their own
}

// Store is safe for concurrent use. Until it is attached to a pool, and after it was detached, its methods answer
// scheduler.ErrNotRunning.
type Store struct {
	cfg  Config
	pool atomic.Pointer[pgxpool.Pool]
	q    *schedulerdb.Queries
}

// New makes a store without a database.
func New(cfg Config) *Store { return &Store{cfg: cfg, q: schedulerdb.New()} }

// Attach gives the store its database; nil takes it away. The caller closes the pool.
func (s *Store) Attach(pool *pgxpool.Pool) { s.pool.Store(pool) }

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	db, err := s.db()
	if err != nil {
		return err
	}
	if err := db.Ping(ctx); err != nil {
		return fmt.Errorf("reach the scheduler's database: %w", pg.Map(err))
	}
	return nil
}

func (s *Store) db() (*pgxpool.Pool, error) {
	if pool := s.pool.Load(); pool != nil {
		return pool, nil
	}
	return nil, scheduler.ErrNotRunning
}

func (s *Store) inTx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	db, err := s.db()
	if err != nil {
		return err
	}
	return pg.InTx(ctx, db, fn)
}

// mapNoRows turns the driver's "no rows" into the caller's own error.
func mapNoRows(err, notFound error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound
	}
	return pg.Map(err)
}

// start is the position before the newest row of a list. PostgreSQL's timestamps reach the year 294276.
func start(after *scheduler.Position) (time.Time, uuid.UUID) {
	if after != nil {
		return after.Time, after.ID
	}
	return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), uuid.Max
}

// rows bounds a page.
func rows(limit int) int32 {
	if limit <= 0 {
		limit = scheduler.DefaultPage
	}
	return int32(min(limit, scheduler.MaxPage))
}

func toAllocation(r schedulerdb.ResourceAllocation) scheduler.Allocation {
	a := scheduler.Allocation{
		Kind: scheduler.AllocationKind(r.Kind), VMID: r.VmID, NodeID: r.NodeID, TenantID: r.TenantID, VCPUs: int(r.CpuAllocated), MemoryBytes: r.MemoryAllocated,
		StorageBytes: r.StorageAllocated, HypervisorType: r.HypervisorType, Status: scheduler.AllocationStatus(r.Status),
		AllocatedAt: r.AllocatedAt.UTC(),
	}
	if r.ExpiresAt != nil {
		at := r.ExpiresAt.UTC()
		a.ExpiresAt = &at
	}
	return a
}

// clampInt32 brings what a node claims into the range of its column.
func clampInt32(n int) int32 { return int32(max(0, min(n, math.MaxInt32))) }
