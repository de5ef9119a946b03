package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/schedulerdb"
)

// TenantQuota is what a tenant may hold and what it holds.
type TenantQuota struct {
	TenantID  uuid.UUID
	Limits    scheduler.Quota
	Usage     scheduler.Usage
	Own       bool       // set for this tenant; otherwise the default
	Revision  int64      // 0 for the default
	UpdatedAt *time.Time // nil for the default
}

// GetQuota gives a tenant's quota. Of a tenant that nothing is known of it gives the default, unused.
func (s *Store) GetQuota(ctx context.Context, tenant uuid.UUID) (TenantQuota, error) {
	db, err := s.db()
	if err != nil {
		return TenantQuota{}, err
	}
	return s.withUsage(ctx, db, tenant)
}

// PutQuota sets a tenant's quota, of the given revision only where one is given. It fails with scheduler.ErrVersion. Less than the
// tenant holds is allowed: nothing is taken away, but nothing more is given.
func (s *Store) PutQuota(ctx context.Context, tenant uuid.UUID, limits scheduler.Quota, revision *int64) (quota TenantQuota, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		// The usage row stands for the tenant: whoever changes the quota of a tenant holds it, also where there is no quota yet.
		if _, err := s.lockUsage(ctx, tx, tenant); err != nil {
			return err
		}
		old, err := s.quota(ctx, tx, tenant)
		if err != nil {
			return err
		}
		if revision != nil && *revision != old.Revision {
			return scheduler.ErrVersion
		}
		if err := s.q.QuotaPut(ctx, tx, schedulerdb.QuotaPutParams{TenantID: tenant, Vcpus: limits.VCPUs, MemoryBytes: limits.MemoryBytes,
			StorageBytes: limits.StorageBytes, Vms: limits.VMs}); err != nil {
			return err
		}
		quota, err = s.withUsage(ctx, tx, tenant)
		return err
	})
	if err != nil {
		return TenantQuota{}, fmt.Errorf("set quota of tenant %s: %w", tenant, err)
	}
	return quota, nil
}

func (s *Store) withUsage(ctx context.Context, db schedulerdb.DBTX, tenant uuid.UUID) (TenantQuota, error) {
	quota, err := s.quota(ctx, db, tenant)
	if err != nil {
		return TenantQuota{}, err
	}
	row, err := s.q.UsageGet(ctx, db, tenant)
	if err != nil && !pg.NotFound(err) {
		return TenantQuota{}, fmt.Errorf("read usage of tenant %s: %w", tenant, pg.Map(err))
	}
	quota.Usage = toUsage(row)
	return quota, nil
}

// quota reads the limits only.
func (s *Store) quota(ctx context.Context, db schedulerdb.DBTX, tenant uuid.UUID) (TenantQuota, error) {
	row, err := s.q.QuotaGet(ctx, db, tenant)
	if pg.NotFound(err) {
		return TenantQuota{TenantID: tenant, Limits: s.cfg.DefaultQuota}, nil
	}
	if err != nil {
		return TenantQuota{}, fmt.Errorf("read quota of tenant %s: %w", tenant, pg.Map(err))
	}
	at := row.UpdatedAt.UTC()
	return TenantQuota{TenantID: tenant, Own: true, Revision: row.Revision, UpdatedAt: &at,
		Limits: scheduler.Quota{VCPUs: row.Vcpus, MemoryBytes: row.MemoryBytes, StorageBytes: row.StorageBytes, VMs: row.Vms}}, nil
}

// lockUsage takes the first lock of every transaction that counts.
func (s *Store) lockUsage(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (scheduler.Usage, error) {
	row, err := s.q.UsageLock(ctx, tx, tenant)
	if pg.NotFound(err) {
		if err := s.q.UsageEnsure(ctx, tx, tenant); err != nil {
			return scheduler.Usage{}, fmt.Errorf("begin to count for tenant %s: %w", tenant, err)
		}
		row, err = s.q.UsageLock(ctx, tx, tenant)
	}
	if err != nil {
		return scheduler.Usage{}, fmt.Errorf("lock usage of tenant %s: %w", tenant, err)
	}
	return toUsage(row), nil
}

func toUsage(r schedulerdb.QuotaUsage) scheduler.Usage {
	return scheduler.Usage{VCPUs: r.Vcpus, MemoryBytes: r.MemoryBytes, StorageBytes: r.StorageBytes, VMs: r.Vms}
}

// checkQuota tells every resource of which the tenant may not have so much more.
func checkQuota(limits scheduler.Quota, used scheduler.Usage, req scheduler.ReserveRequest) error {
	var exceeded *errs.Error
	check := func(name string, limit, used, more int64, show func(int64) string) {
		if limit == 0 || more <= limit-used {
			return
		}
		message := fmt.Sprintf("allows %s, %s are in use, %s more were asked for", show(limit), show(used), show(more))
		if exceeded == nil {
			exceeded = scheduler.ErrQuotaExceeded.WithMessage("the tenant's quota of %s %s", name, message)
		}
		exceeded = exceeded.WithField("quota."+name, message, "")
	}
	count := func(n int64) string { return fmt.Sprint(n) }
	check("vcpus", limits.VCPUs, used.VCPUs, int64(req.VCPUs), count)
	check("memory_bytes", limits.MemoryBytes, used.MemoryBytes, req.MemoryBytes, placement.Bytes)
	check("storage_bytes", limits.StorageBytes, used.StorageBytes, req.StorageBytes, placement.Bytes)
	if kindOf(req) == scheduler.AllocationVM {
		check("vms", limits.VMs, used.VMs, 1, count)
	}
	if exceeded == nil {
		return nil // not exceeded itself: a nil pointer in an error is not nil
	}
	return exceeded
}
