package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// The kinds of the operations on snapshots. Their target is the snapshot; what they hold is its virtual machine.
const (
	KindSnapshotCreate = "vm.snapshot.create"
	KindSnapshotDelete = "vm.snapshot.delete"
	KindSnapshotRevert = "vm.snapshot.revert"
)

// SnapshotConfig is what a virtual machine had when a snapshot was taken.
type SnapshotConfig struct {
	VCPUs     int               `json:"vcpus"`
	MemoryMiB int64             `json:"memory_mib"`
	MACs      []string          `json:"macs"`
	Disks     []vm.SnapshotDisk `json:"disks"`
}

// SnapshotRecord is a snapshot with what only the module itself may see.
type SnapshotRecord struct {
	vm.Snapshot
	Config SnapshotConfig
}

func snapshotOf(row vmdb.VmSnapshot) (SnapshotRecord, error) {
	r := SnapshotRecord{Snapshot: vm.Snapshot{
		ID: row.ID, VMID: row.VmID, Name: row.Name, Description: row.Description, ParentID: row.ParentID, Status: vm.SnapshotStatus(row.Status),
		Memory: row.Memory, Frozen: row.Frozen, VMState: row.VmState, SizeBytes: row.SizeBytes, MemoryBytes: row.MemoryBytes,
		ExpectedPauseMS: row.ExpectedPauseMs, PauseMS: row.PauseMs, OwnerID: row.OwnerID, TenantID: row.TenantID,
		OperationID: row.OperationID, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}}
	if err := json.Unmarshal(row.Config, &r.Config); err != nil {
		return r, fmt.Errorf("read configuration of snapshot %s: %w", row.ID, err)
	}
	r.Disks = r.Config.Disks
	return r, nil
}

func snapshotsOf(rows []vmdb.VmSnapshot) ([]SnapshotRecord, error) {
	list := make([]SnapshotRecord, len(rows))
	for i, row := range rows {
		var err error
		if list[i], err = snapshotOf(row); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// InsertingSnapshot writes a new snapshot, whose parent is what the disks stand on.
func (s *Store) InsertingSnapshot(n SnapshotRecord) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, op operation.Operation) error {
		_, err := s.q.SnapshotInsert(ctx, tx, vmdb.SnapshotInsertParams{ID: n.ID, VmID: r.ID, TenantID: r.TenantID, OwnerID: n.OwnerID,
			Name: n.Name, Description: n.Description, ParentID: r.CurrentSnapshot, Memory: n.Memory, VmState: n.VMState,
			Config: mustJSON(n.Config), SizeBytes: n.SizeBytes, ExpectedPauseMs: n.ExpectedPauseMS, OperationID: &op.ID})
		if constraint, _ := pg.Violation(err); constraint == "vm_snapshots_name_key" {
			return vm.ErrSnapshotTaken
		}
		return err
	}
}

// MarkingSnapshot notes which operation is at work on a snapshot. One that has gone since it was read is not found: an operation on it would hold
// its virtual machine and never let go, because it is by the snapshot that the end finds the machine.
func (s *Store) MarkingSnapshot(id uuid.UUID, status vm.SnapshotStatus) Then {
	return func(ctx context.Context, tx pgx.Tx, _ Record, op operation.Operation) error {
		marked, err := s.q.SnapshotSetStatus(ctx, tx, vmdb.SnapshotSetStatusParams{ID: id, Status: string(status), OperationID: &op.ID})
		if err == nil && marked == 0 {
			err = vm.ErrSnapshotNotFound
		}
		return err
	}
}

// GetSnapshot reads one snapshot, whichever tenant it belongs to.
func (s *Store) GetSnapshot(ctx context.Context, id uuid.UUID) (SnapshotRecord, error) {
	row, err := s.q.SnapshotGet(ctx, s.pool, id)
	if err != nil {
		return SnapshotRecord{}, fmt.Errorf("read snapshot: %w", mapNoRows(err, vm.ErrSnapshotNotFound))
	}
	return snapshotOf(row)
}

// ListSnapshots gives a page of the snapshots of a virtual machine, newest first.
func (s *Store) ListSnapshots(ctx context.Context, vmID uuid.UUID, before time.Time, beforeID uuid.UUID, limit int) ([]SnapshotRecord, error) {
	rows, err := s.q.SnapshotList(ctx, s.pool, vmdb.SnapshotListParams{VmID: vmID, AfterTime: pageStart(before), AfterID: beforeID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", pg.Map(err))
	}
	return snapshotsOf(rows)
}

// SnapshotsOf lists all snapshots of a virtual machine, the oldest first.
func (s *Store) SnapshotsOf(ctx context.Context, vmID uuid.UUID) ([]SnapshotRecord, error) {
	rows, err := s.q.SnapshotListAll(ctx, s.pool, vmID)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", pg.Map(err))
	}
	return snapshotsOf(rows)
}

// UnfinishedSnapshots lists some that have been neither ready nor at work for a while.
func (s *Store) UnfinishedSnapshots(ctx context.Context, age time.Duration, limit int) ([]SnapshotRecord, error) {
	rows, err := s.q.SnapshotUnfinished(ctx, s.pool, vmdb.SnapshotUnfinishedParams{OlderSeconds: age.Seconds(), MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list unfinished snapshots: %w", pg.Map(err))
	}
	return snapshotsOf(rows)
}

// SnapshotTaken notes what a node tells of a snapshot.
func (s *Store) SnapshotTaken(ctx context.Context, id uuid.UUID, taken nodeapi.SnapshotTaken) error {
	var pause *int64
	if ms := taken.Pause.Milliseconds(); taken.Pause > 0 {
		pause = &ms
	}
	return pg.Map(s.q.SnapshotTaken(ctx, s.pool, vmdb.SnapshotTakenParams{ID: id, Frozen: taken.Frozen, VmState: string(taken.Observed),
		MemoryBytes: taken.MemoryBytes, PauseMs: pause}))
}

// EndSnapshot is what the end of an operation on a snapshot does to its row and to that of its virtual machine. A snapshot whose making or
// deletion was overtaken, or whose deletion failed, is as good as deleted: the sweeper sees to the rest.
func (s *Store) EndSnapshot(ctx context.Context, tx pgx.Tx, op operation.Operation) error {
	row, err := s.q.SnapshotGet(ctx, tx, op.TargetID)
	if errors.Is(err, pgx.ErrNoRows) { // gone with its virtual machine
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.endVM(ctx, tx, op, row.VmID); err != nil {
		return err
	}
	machine, err := s.q.VMGet(ctx, tx, row.VmID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	succeeded, overtaken := op.Status == operation.StatusSucceeded, errors.Is(asError(op.Error), operation.ErrSuperseded)
	status, failure := vm.SnapshotReady, []byte(nil)
	current, change, metadata := machine.CurrentSnapshotID, "failed", outcome(op)
	switch {
	case !succeeded:
	case op.Kind == KindSnapshotCreate:
		change = "created"
		metadata["memory"], metadata["frozen"], metadata["expected_pause_ms"], metadata["pause_ms"] = row.Memory, row.Frozen, row.ExpectedPauseMs, row.PauseMs
	case op.Kind == KindSnapshotRevert:
		change = "reverted"
	case op.Kind == KindSnapshotDelete:
		change = "deleted"
	}
	switch {
	case op.Kind == KindSnapshotDelete && succeeded, op.Kind == KindSnapshotCreate && !succeeded && !overtaken:
		if current != nil && *current == row.ID {
			current = row.ParentID
		}
		if err := s.q.SnapshotReparent(ctx, tx, vmdb.SnapshotReparentParams{VmID: row.VmID, ID: row.ID, ParentID: row.ParentID}); err != nil {
			return err
		}
		if err := s.q.SnapshotDelete(ctx, tx, row.ID); err != nil {
			return err
		}
	case !succeeded && op.Kind != KindSnapshotRevert:
		status, failure = vm.SnapshotFailed, errs.Encode(op.Error)
		fallthrough
	default:
		if succeeded {
			current = &row.ID
		}
		if _, err := s.q.SnapshotSetStatus(ctx, tx, vmdb.SnapshotSetStatusParams{ID: row.ID, Status: string(status), Error: failure}); err != nil {
			return err
		}
	}
	if err := s.q.VMSetCurrentSnapshot(ctx, tx, vmdb.VMSetCurrentSnapshotParams{ID: row.VmID, CurrentSnapshotID: current}); err != nil {
		return err
	}
	if err := tell(ctx, tx, snapshotTold(row), change, metadata); err != nil {
		return err
	}
	return s.tellChange(ctx, tx, op, row.VmID, map[string]any{"change": op.Kind, "snapshot_id": row.ID.String(), "operation_id": op.ID.String()})
}
