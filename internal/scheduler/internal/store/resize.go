package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/schedulerdb"
)

// ResizeStorage changes how much storage a place has. It answers the node with its reasons where that cannot give so much more. Less is
// always given back, also on a node that is away.
func (s *Store) ResizeStorage(ctx context.Context, req scheduler.ResizeStorageRequest) (a scheduler.Allocation, refused []placement.Verdict, err error) {
	return s.resize(ctx, req.VMID, req.DryRun, func(have scheduler.Resources) scheduler.Resources {
		have.StorageBytes = req.StorageBytes
		return have
	})
}

// Resize changes how many vCPUs and how much memory a place has, as ResizeStorage does with its storage.
func (s *Store) Resize(ctx context.Context, req scheduler.ResizeRequest) (a scheduler.Allocation, refused []placement.Verdict, err error) {
	return s.resize(ctx, req.VMID, req.DryRun, func(have scheduler.Resources) scheduler.Resources {
		have.VCPUs, have.MemoryBytes = req.VCPUs, req.MemoryBytes
		return have
	})
}

// change makes what a place is to have of what it has.
type change func(have scheduler.Resources) scheduler.Resources

func heldBy(row schedulerdb.ResourceAllocation) scheduler.Resources {
	a := toAllocation(row)
	return scheduler.Resources{VCPUs: a.VCPUs, MemoryBytes: a.MemoryBytes, StorageBytes: a.StorageBytes}
}

func (s *Store) resize(ctx context.Context, id uuid.UUID, dryRun bool, to change) (a scheduler.Allocation, refused []placement.Verdict, err error) {
	db, err := s.db()
	if err != nil {
		return a, nil, err
	}
	row, err := s.q.AllocationGet(ctx, db, id)
	if err != nil {
		return a, nil, fmt.Errorf("read the place of %s: %w", id, mapNoRows(err, scheduler.ErrAllocationNotFound))
	}
	if have := heldBy(row); to(have) == have {
		return toAllocation(row), nil, nil
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		a, refused, err = s.resizeLocked(ctx, tx, row, dryRun, to)
		return err
	})
	if err != nil {
		return a, nil, fmt.Errorf("resize the place of %s: %w", id, pg.Map(err))
	}
	return a, refused, nil
}

// resizeLocked takes its locks in the order of all transactions here. first is the allocation as it was read without a lock: its tenant
// and node never change.
func (s *Store) resizeLocked(ctx context.Context, tx pgx.Tx, first schedulerdb.ResourceAllocation, dryRun bool, to change) (scheduler.Allocation, []placement.Verdict, error) {
	used, err := s.lockUsage(ctx, tx, first.TenantID)
	if err != nil {
		return scheduler.Allocation{}, nil, err
	}
	row, err := s.q.AllocationGet(ctx, tx, first.VmID)
	if err != nil {
		return scheduler.Allocation{}, nil, mapNoRows(err, scheduler.ErrAllocationNotFound)
	}
	have := heldBy(row)
	want := to(have)
	if want == have {
		return toAllocation(row), nil, nil
	}
	more := scheduler.Resources{VCPUs: want.VCPUs - have.VCPUs, MemoryBytes: want.MemoryBytes - have.MemoryBytes, StorageBytes: want.StorageBytes - have.StorageBytes}
	if more.VCPUs > 0 || more.MemoryBytes > 0 || more.StorageBytes > 0 {
		refused, err := s.checkMore(ctx, tx, row, used, more)
		if err != nil || len(refused) > 0 {
			return scheduler.Allocation{}, refused, err
		}
	}
	if dryRun {
		return toAllocation(row), nil, nil
	}
	if row, err = s.q.AllocationSetSize(ctx, tx, schedulerdb.AllocationSetSizeParams{VmID: row.VmID, CpuAllocated: int32(want.VCPUs), //nolint:gosec // checked
		MemoryAllocated: want.MemoryBytes, StorageAllocated: want.StorageBytes}); err != nil {
		return scheduler.Allocation{}, nil, err
	}
	if err := s.q.UsageAdd(ctx, tx, schedulerdb.UsageAddParams{TenantID: row.TenantID, Vcpus: int64(more.VCPUs), MemoryBytes: more.MemoryBytes,
		StorageBytes: more.StorageBytes}); err != nil {
		return scheduler.Allocation{}, nil, fmt.Errorf("count for tenant: %w", err)
	}
	if err := s.q.NodeAdd(ctx, tx, schedulerdb.NodeAddParams{ID: row.NodeID, Vcpus: int64(more.VCPUs), MemoryBytes: more.MemoryBytes,
		StorageBytes: more.StorageBytes}); err != nil {
		return scheduler.Allocation{}, nil, fmt.Errorf("count on node: %w", err)
	}
	return toAllocation(row), nil, nil
}

// checkMore looks whether quota and node have so much more, and locks the node. What becomes less is not looked at.
func (s *Store) checkMore(ctx context.Context, tx pgx.Tx, row schedulerdb.ResourceAllocation, used scheduler.Usage, more scheduler.Resources) ([]placement.Verdict, error) {
	quota, err := s.quota(ctx, tx, row.TenantID)
	if err != nil {
		return nil, err
	}
	more = scheduler.Resources{VCPUs: max(more.VCPUs, 0), MemoryBytes: max(more.MemoryBytes, 0), StorageBytes: max(more.StorageBytes, 0)}
	if err := checkQuota(quota.Limits, used, scheduler.ReserveRequest{Kind: scheduler.AllocationVolume, VCPUs: more.VCPUs, MemoryBytes: more.MemoryBytes,
		StorageBytes: more.StorageBytes}); err != nil {
		return nil, err
	}
	locked, err := s.q.NodeGetForUpdate(ctx, tx, row.NodeID)
	if err != nil {
		return nil, err
	}
	node, err := s.toNode(locked.Node, locked.ReadAt)
	if err != nil {
		return nil, err
	}
	reasons := s.cfg.Policy.Check(node, placement.Request{VCPUs: more.VCPUs, MemoryBytes: more.MemoryBytes, StorageBytes: more.StorageBytes, NodeID: &row.NodeID})
	if len(reasons) == 0 {
		return nil, nil
	}
	return []placement.Verdict{{Node: node, Reasons: reasons}}, nil
}
