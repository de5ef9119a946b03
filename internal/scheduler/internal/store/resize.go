package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/schedulerdb"
)

// ResizeStorage changes how much storage a place has. It answers the node with its reasons where that cannot give so much more. Less is
// always given back, also on a node that is away.
func (s *Store) ResizeStorage(ctx context.Context, req scheduler.ResizeStorageRequest) (a scheduler.Allocation, refused []placement.Verdict, err error) {
	db, err := s.db()
	if err != nil {
		return a, nil, err
	}
	row, err := s.q.AllocationGet(ctx, db, req.VMID)
	if err != nil {
		return a, nil, fmt.Errorf("read the place of %s: %w", req.VMID, mapNoRows(err, scheduler.ErrAllocationNotFound))
	}
	if row.StorageAllocated == req.StorageBytes {
		return toAllocation(row), nil, nil
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		a, refused, err = s.resizeStorage(ctx, tx, row, req)
		return err
	})
	if err != nil {
		return a, nil, fmt.Errorf("resize the place of %s: %w", req.VMID, pg.Map(err))
	}
	return a, refused, nil
}

// resizeStorage takes its locks in the order of all transactions here. first is the allocation as it was read without a lock: its tenant
// and node never change.
func (s *Store) resizeStorage(ctx context.Context, tx pgx.Tx, first schedulerdb.ResourceAllocation, req scheduler.ResizeStorageRequest) (scheduler.Allocation, []placement.Verdict, error) {
	used, err := s.lockUsage(ctx, tx, first.TenantID)
	if err != nil {
		return scheduler.Allocation{}, nil, err
	}
	row, err := s.q.AllocationGet(ctx, tx, first.VmID)
	if err != nil {
		return scheduler.Allocation{}, nil, mapNoRows(err, scheduler.ErrAllocationNotFound)
	}
	more := req.StorageBytes - row.StorageAllocated
	if more == 0 {
		return toAllocation(row), nil, nil
	}
	if more > 0 {
		refused, err := s.checkMore(ctx, tx, row, used, more)
		if err != nil || len(refused) > 0 {
			return scheduler.Allocation{}, refused, err
		}
	}
	if req.DryRun {
		return toAllocation(row), nil, nil
	}
	if row, err = s.q.AllocationSetStorage(ctx, tx, schedulerdb.AllocationSetStorageParams{VmID: row.VmID, StorageAllocated: req.StorageBytes}); err != nil {
		return scheduler.Allocation{}, nil, err
	}
	if err := s.q.UsageAdd(ctx, tx, schedulerdb.UsageAddParams{TenantID: row.TenantID, StorageBytes: more}); err != nil {
		return scheduler.Allocation{}, nil, fmt.Errorf("count for tenant: %w", err)
	}
	if err := s.q.NodeAdd(ctx, tx, schedulerdb.NodeAddParams{ID: row.NodeID, StorageBytes: more}); err != nil {
		return scheduler.Allocation{}, nil, fmt.Errorf("count on node: %w", err)
	}
	return toAllocation(row), nil, nil
}

// checkMore looks whether quota and node have so much more, and locks the node.
func (s *Store) checkMore(ctx context.Context, tx pgx.Tx, row schedulerdb.ResourceAllocation, used scheduler.Usage, more int64) ([]placement.Verdict, error) {
	quota, err := s.quota(ctx, tx, row.TenantID)
	if err != nil {
		return nil, err
	}
	if err := checkQuota(quota.Limits, used, scheduler.ReserveRequest{Kind: scheduler.AllocationVolume, StorageBytes: more}); err != nil {
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
	reasons := s.cfg.Policy.Check(node, placement.Request{StorageBytes: more, NodeID: &row.NodeID})
	if len(reasons) == 0 {
		return nil, nil
	}
	return []placement.Verdict{{Node: node, Reasons: reasons}}, nil
}
