package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/schedulerdb"
)

// Reservation is what Reserve found or made.
type Reservation struct {
	Allocation scheduler.Allocation
	NodeName   string
	Existing   bool                // the machine held the place already
	Taken      bool                // there is an allocation, old or new
	Verdicts   []placement.Verdict // every node with its reasons, where no place was taken because none fits
}

// raceAttempts bounds how often a reservation looks anew because the best node filled up between look and lock. Each time somebody else
// got a place, so running out of attempts takes heavy traffic on nodes that are nearly full.
const raceAttempts = 20

var (
	errRace    = errors.New("what was read has changed before it could be locked")
	errExpired = errors.New("the machine holds a reservation that has expired")
)

// Reserve takes a place, in one transaction. When the chosen node has filled up before it could be locked, all of it begins again with
// fresh figures.
func (s *Store) Reserve(ctx context.Context, req scheduler.ReserveRequest) (Reservation, error) {
	for range raceAttempts {
		var r Reservation
		err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
			r, err = s.reserve(ctx, tx, req)
			return err
		})
		if errors.Is(err, errExpired) { // in a transaction of its own, because this one may lock another node
			if _, err = s.giveBack(ctx, req.TenantID, req.VMID, s.q.AllocationDeleteExpired); err == nil {
				continue
			}
		}
		// The unique violation is the machine's: two tenants reserve for one id at the same moment.
		if _, kind := pg.Violation(err); errors.Is(err, errRace) || kind == pg.Unique {
			continue
		}
		if err != nil {
			return Reservation{}, fmt.Errorf("reserve a place for %s: %w", req.VMID, err)
		}
		return r, nil
	}
	return Reservation{}, fmt.Errorf("reserve a place for %s: %w", req.VMID, pg.ErrContention)
}

func (s *Store) reserve(ctx context.Context, tx pgx.Tx, req scheduler.ReserveRequest) (Reservation, error) {
	used, err := s.lockUsage(ctx, tx, req.TenantID)
	if err != nil {
		return Reservation{}, err
	}
	if held, err := s.held(ctx, tx, req); err != nil || held.Existing {
		return held, err
	}
	quota, err := s.quota(ctx, tx, req.TenantID)
	if err != nil {
		return Reservation{}, err
	}
	if err := checkQuota(quota.Limits, used, req); err != nil {
		return Reservation{}, err
	}
	nodes, err := s.allNodes(ctx, tx)
	if err != nil {
		return Reservation{}, err
	}
	want := placement.Request{VCPUs: req.VCPUs, MemoryBytes: req.MemoryBytes, StorageBytes: req.StorageBytes, HypervisorType: req.HypervisorType,
		NodeID: req.NodeID}
	ranked := s.cfg.Policy.Rank(nodes, want)
	if len(ranked) == 0 || !ranked[0].Fits() {
		return Reservation{Verdicts: ranked}, nil
	}
	row, err := s.q.NodeGetForUpdate(ctx, tx, ranked[0].Node.ID)
	if err != nil {
		return Reservation{}, mapNoRows(err, errRace)
	}
	node, err := s.toNode(row.Node, row.ReadAt)
	if err != nil {
		return Reservation{}, err
	}
	if len(s.cfg.Policy.Check(node, want)) > 0 {
		return Reservation{}, errRace
	}
	return s.take(ctx, tx, req, node)
}

// kindOf tells what asks for a place.
func kindOf(req scheduler.ReserveRequest) scheduler.AllocationKind {
	if req.Kind == "" {
		return scheduler.AllocationVM
	}
	return req.Kind
}

// held finds the place that the machine holds already, with a fresh expiry. Without one the answer is empty.
func (s *Store) held(ctx context.Context, tx pgx.Tx, req scheduler.ReserveRequest) (Reservation, error) {
	row, err := s.q.AllocationGet(ctx, tx, req.VMID)
	if pg.NotFound(err) {
		return Reservation{}, nil
	}
	if err != nil {
		return Reservation{}, fmt.Errorf("read allocation: %w", err)
	}
	if row.TenantID != req.TenantID || row.Kind != string(kindOf(req)) {
		return Reservation{}, scheduler.ErrReservationMismatch
	}
	if row.Status == string(scheduler.AllocationReserved) {
		row, err = s.q.AllocationRenew(ctx, tx, schedulerdb.AllocationRenewParams{VmID: req.VMID, TtlSeconds: req.TTL.Seconds()})
		if pg.NotFound(err) { // expired, or confirmed since we looked: the next attempt tells which
			return Reservation{}, errExpired
		}
		if err != nil {
			return Reservation{}, fmt.Errorf("renew reservation: %w", err)
		}
	}
	if int(row.CpuAllocated) != req.VCPUs || row.MemoryAllocated != req.MemoryBytes || row.StorageAllocated != req.StorageBytes ||
		row.HypervisorType != req.HypervisorType || req.NodeID != nil && row.NodeID != *req.NodeID {
		return Reservation{}, scheduler.ErrReservationMismatch
	}
	node, err := s.q.NodeGet(ctx, tx, row.NodeID)
	if err != nil {
		return Reservation{}, fmt.Errorf("read node of allocation: %w", err)
	}
	return Reservation{Allocation: toAllocation(row), NodeName: node.Node.Name, Existing: true, Taken: true}, nil
}

// take inserts the allocation and counts it. The caller holds the tenant's and the node's row.
func (s *Store) take(ctx context.Context, tx pgx.Tx, req scheduler.ReserveRequest, node scheduler.Node) (Reservation, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Reservation{}, fmt.Errorf("make allocation id: %w", err)
	}
	row, err := s.q.AllocationInsert(ctx, tx, schedulerdb.AllocationInsertParams{
		ID: id, Kind: string(kindOf(req)), NodeID: node.ID, VmID: req.VMID, TenantID: req.TenantID, HypervisorType: req.HypervisorType,
		CpuAllocated: clampInt32(req.VCPUs), MemoryAllocated: req.MemoryBytes, StorageAllocated: req.StorageBytes, TtlSeconds: req.TTL.Seconds(),
	})
	if err != nil {
		return Reservation{}, fmt.Errorf("insert allocation: %w", err)
	}
	if err := s.count(ctx, tx, row, 1); err != nil {
		return Reservation{}, err
	}
	return Reservation{Allocation: toAllocation(row), NodeName: node.Name, Taken: true}, nil
}

// count adds an allocation to the counters of its tenant and its node, or takes it off with sign -1.
func (s *Store) count(ctx context.Context, tx pgx.Tx, r schedulerdb.ResourceAllocation, sign int64) error {
	vcpus, memory, storage := sign*int64(r.CpuAllocated), sign*r.MemoryAllocated, sign*r.StorageAllocated
	machines := sign
	if r.Kind != string(scheduler.AllocationVM) {
		machines = 0
	}
	if err := s.q.UsageAdd(ctx, tx, schedulerdb.UsageAddParams{TenantID: r.TenantID, Vcpus: vcpus, MemoryBytes: memory,
		StorageBytes: storage, Vms: machines}); err != nil {
		return fmt.Errorf("count for tenant: %w", err)
	}
	if err := s.q.NodeAdd(ctx, tx, schedulerdb.NodeAddParams{ID: r.NodeID, Vcpus: vcpus, MemoryBytes: memory,
		StorageBytes: storage, Vms: int32(machines)}); err != nil {
		return fmt.Errorf("count on node: %w", err)
	}
	return nil
}

// Confirm makes a reservation permanent. It fails with scheduler.ErrReservationExpired.
func (s *Store) Confirm(ctx context.Context, vmID uuid.UUID) (scheduler.Allocation, error) {
	db, err := s.db()
	if err != nil {
		return scheduler.Allocation{}, err
	}
	row, err := s.q.AllocationConfirm(ctx, db, vmID)
	if err != nil {
		return scheduler.Allocation{}, fmt.Errorf("confirm the place of %s: %w", vmID, mapNoRows(err, scheduler.ErrReservationExpired))
	}
	return toAllocation(row), nil
}

// Release gives back what a machine holds and tells whether that was anything.
func (s *Store) Release(ctx context.Context, vmID uuid.UUID) (released bool, err error) {
	db, err := s.db()
	if err != nil {
		return false, err
	}
	row, err := s.q.AllocationGet(ctx, db, vmID)
	if pg.NotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("release the place of %s: %w", vmID, pg.Map(err))
	}
	released, err = s.giveBack(ctx, row.TenantID, vmID, s.q.AllocationDelete)
	if err != nil {
		return false, fmt.Errorf("release the place of %s: %w", vmID, err)
	}
	return released, nil
}

// giveBack deletes an allocation, which remove may refuse by finding no row, and takes it off the counters.
func (s *Store) giveBack(ctx context.Context, tenant, vmID uuid.UUID,
	remove func(context.Context, schedulerdb.DBTX, uuid.UUID) (schedulerdb.ResourceAllocation, error)) (removed bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		removed = false
		if _, err := s.lockUsage(ctx, tx, tenant); err != nil {
			return err
		}
		row, err := remove(ctx, tx, vmID)
		if pg.NotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("delete allocation: %w", err)
		}
		removed = true
		return s.count(ctx, tx, row, -1)
	})
	return removed, err
}

// sweepBatch is how many expired reservations one sweep gives back at most.
const sweepBatch = 500

// Sweep gives back reservations that nobody confirmed in time, and tells how many. One that cannot be given back does not stop the
// others.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	db, err := s.db()
	if err != nil {
		return 0, err
	}
	list, err := s.q.AllocationListExpired(ctx, db, sweepBatch)
	if err != nil {
		return 0, fmt.Errorf("list expired reservations: %w", pg.Map(err))
	}
	swept := 0
	var failed error
	for _, r := range list {
		removed, err := s.giveBack(ctx, r.TenantID, r.VmID, s.q.AllocationDeleteExpired)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("give back the expired place of %s: %w", r.VmID, err))
		}
		if removed {
			swept++
		}
	}
	return swept, failed
}

// GetAllocation fails with scheduler.ErrAllocationNotFound.
func (s *Store) GetAllocation(ctx context.Context, vmID uuid.UUID) (scheduler.Allocation, error) {
	db, err := s.db()
	if err != nil {
		return scheduler.Allocation{}, err
	}
	row, err := s.q.AllocationGet(ctx, db, vmID)
	if err != nil {
		return scheduler.Allocation{}, fmt.Errorf("read the place of %s: %w", vmID, mapNoRows(err, scheduler.ErrAllocationNotFound))
	}
	return toAllocation(row), nil
}

// ListAllocations gives a page of allocations, newest first.
func (s *Store) ListAllocations(ctx context.Context, req scheduler.ListAllocationsRequest) ([]scheduler.Allocation, error) {
	db, err := s.db()
	if err != nil {
		return nil, err
	}
	at, id := start(req.After)
	list, err := s.listAllocations(ctx, db, req, at, id)
	if err != nil {
		return nil, fmt.Errorf("list allocations: %w", pg.Map(err))
	}
	allocations := make([]scheduler.Allocation, len(list))
	for i, r := range list {
		allocations[i] = toAllocation(r)
	}
	return allocations, nil
}

// listAllocations picks the query whose index fits the filters.
func (s *Store) listAllocations(ctx context.Context, db schedulerdb.DBTX, req scheduler.ListAllocationsRequest, at time.Time, id uuid.UUID) ([]schedulerdb.ResourceAllocation, error) {
	limit := rows(req.Limit)
	switch {
	case req.TenantID != nil && req.NodeID != nil:
		return s.q.AllocationListByTenantAndNode(ctx, db, schedulerdb.AllocationListByTenantAndNodeParams{TenantID: *req.TenantID,
			NodeID: *req.NodeID, AfterTime: at, AfterID: id, MaxRows: limit})
	case req.TenantID != nil:
		return s.q.AllocationListByTenant(ctx, db, schedulerdb.AllocationListByTenantParams{TenantID: *req.TenantID, AfterTime: at, AfterID: id, MaxRows: limit})
	case req.NodeID != nil:
		return s.q.AllocationListByNode(ctx, db, schedulerdb.AllocationListByNodeParams{NodeID: *req.NodeID, AfterTime: at, AfterID: id, MaxRows: limit})
	default:
		return s.q.AllocationList(ctx, db, schedulerdb.AllocationListParams{AfterTime: at, AfterID: id, MaxRows: limit})
	}
}
