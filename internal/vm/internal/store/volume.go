package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// The kinds of the operations on volumes that no virtual machine has.
const (
	KindVolumeCreate = "volume.create"
	KindVolumeDelete = "volume.delete"
	KindVolumeResize = "volume.resize"
)

// The kinds of the operations on the disks of virtual machines.
const (
	KindDiskAttach = "vm.disk.attach"
	KindDiskDetach = "vm.disk.detach"
	KindDiskResize = "vm.disk.resize"
)

// The statuses in the row of a volume. Whether one that is ready is in use says its virtual machine.
const (
	volumeReady    = "ready"
	volumeDeleting = "deleting"
)

func volumeOf(row vmdb.Volume) (vm.Volume, error) {
	v := vm.Volume{
		ID: row.ID, Name: row.Name, Description: row.Description, Status: vm.VolumeStatus(row.Status), Format: vm.VolumeFormat(row.Format),
		SizeBytes: row.SizeBytes, AllocatedBytes: row.AllocatedBytes, NodeID: row.NodeID, Pool: vm.DefaultPool, ImageID: row.ImageID,
		VMID: row.VmID, OwnerID: row.OwnerID, TenantID: row.TenantID, Generation: row.Generation, OperationID: row.OperationID,
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
	if row.Status == volumeReady {
		v.Status = vm.VolumeAvailable
	}
	if row.VmID != nil {
		if row.Status == volumeReady {
			v.Status = vm.VolumeInUse
		}
		if row.AttachedAt != nil {
			at := row.AttachedAt.UTC()
			v.AttachedAt = &at
		}
	}
	if err := json.Unmarshal(row.Tags, &v.Tags); err != nil {
		return v, fmt.Errorf("read tags of volume %s: %w", row.ID, err)
	}
	return v, nil
}

func volumesOf(rows []vmdb.Volume) ([]vm.Volume, error) {
	volumes := make([]vm.Volume, len(rows))
	for i, row := range rows {
		var err error
		if volumes[i], err = volumeOf(row); err != nil {
			return nil, err
		}
	}
	return volumes, nil
}

// CreateVolume writes a new volume and the operation that makes it.
func (s *Store) CreateVolume(ctx context.Context, v vm.Volume, op operation.New) (begun operation.Operation, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		_, err := s.q.VolumeInsert(ctx, tx, vmdb.VolumeInsertParams{ID: v.ID, TenantID: v.TenantID, OwnerID: v.OwnerID, Name: v.Name,
			Description: v.Description, Tags: mustJSON(v.Tags), NodeID: v.NodeID, Format: string(v.Format), SizeBytes: v.SizeBytes,
			ImageID: v.ImageID, OperationID: &op.ID})
		if err != nil {
			return volumeViolation(err)
		}
		begun, err = s.ops.Create(ctx, tx, op)
		return err
	})
	return begun, err
}

func volumeViolation(err error) error {
	switch constraint, _ := pg.Violation(err); constraint {
	case "volumes_name_key":
		return vm.ErrVolumeTaken
	case "volumes_image_id_fkey":
		return vm.ErrImageNotFound
	case "volumes_vm_id_fkey":
		return vm.ErrNotFound
	default:
		return err
	}
}

// GetVolume reads one volume, whichever tenant it belongs to.
func (s *Store) GetVolume(ctx context.Context, id uuid.UUID) (vm.Volume, error) {
	row, err := s.q.VolumeGet(ctx, s.pool, id)
	if err != nil {
		return vm.Volume{}, fmt.Errorf("read volume: %w", mapNoRows(err, vm.ErrVolumeNotFound))
	}
	return volumeOf(row)
}

// VolumeNameTaken tells whether the tenant has a volume of this name.
func (s *Store) VolumeNameTaken(ctx context.Context, tenant uuid.UUID, name string) (bool, error) {
	taken, err := s.q.VolumeNameTaken(ctx, s.pool, vmdb.VolumeNameTakenParams{TenantID: tenant, Name: name})
	return taken, pg.Map(err)
}

// VolumeFilter narrows a list of volumes.
type VolumeFilter struct {
	TenantID *uuid.UUID // nil: all tenants, and then the owner is not looked at
	OwnerID  *uuid.UUID // nil: whoever owns them
	Name     string
	VMID     *uuid.UUID
	Tags     []Tag     // all of them
	Before   time.Time // position of the last item of the page before
	BeforeID uuid.UUID
	Limit    int
}

// ListVolumes lists volumes, newest first.
func (s *Store) ListVolumes(ctx context.Context, f VolumeFilter) ([]vm.Volume, error) {
	values, keys := map[string]string{}, []string{}
	for _, tag := range f.Tags {
		keys = append(keys, tag.Key)
		if tag.Value == nil {
			continue
		}
		if have, twice := values[tag.Key]; twice && have != *tag.Value {
			return nil, nil // no volume has two values of one tag
		}
		values[tag.Key] = *tag.Value
	}
	var rows []vmdb.Volume
	var err error
	if f.TenantID == nil {
		rows, err = s.q.VolumeListAll(ctx, s.pool, vmdb.VolumeListAllParams{Name: f.Name, VmID: f.VMID, Tags: mustJSON(values), TagKeys: keys, AfterTime: pageStart(f.Before), AfterID: f.BeforeID, MaxRows: int32(f.Limit)})
	} else {
		rows, err = s.q.VolumeList(ctx, s.pool, vmdb.VolumeListParams{TenantID: *f.TenantID, Owner: f.OwnerID, Name: f.Name, VmID: f.VMID, Tags: mustJSON(values), TagKeys: keys,
			AfterTime: pageStart(f.Before), AfterID: f.BeforeID, MaxRows: int32(f.Limit)})
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", pg.Map(err))
	}
	return volumesOf(rows)
}

// VolumesOf lists the volumes that virtual machines have, those of one machine in the order in which they were attached.
func (s *Store) VolumesOf(ctx context.Context, vms ...uuid.UUID) ([]vm.Volume, error) {
	rows, err := s.q.VolumeListByVMs(ctx, s.pool, vms)
	if err != nil {
		return nil, fmt.Errorf("list volumes of virtual machines: %w", pg.Map(err))
	}
	return volumesOf(rows)
}

// UpdateVolume lets change look at a volume and give it another name, description or tags.
func (s *Store) UpdateVolume(ctx context.Context, id uuid.UUID, change func(*vm.Volume) error) (updated vm.Volume, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.VolumeGetForUpdate(ctx, tx, id)
		if err != nil {
			return mapNoRows(err, vm.ErrVolumeNotFound)
		}
		v, err := volumeOf(row)
		if err != nil {
			return err
		}
		if err := change(&v); err != nil {
			return err
		}
		row, err = s.q.VolumeUpdateDetails(ctx, tx, vmdb.VolumeUpdateDetailsParams{ID: id, Name: v.Name, Description: v.Description, Tags: mustJSON(v.Tags)})
		if err != nil {
			return volumeViolation(err)
		}
		if updated, err = volumeOf(row); err != nil {
			return err
		}
		return tell(ctx, tx, volumeTold(row), "updated", map[string]any{"description": v.Description, "tags": v.Tags})
	})
	return updated, err
}

// live tells the operation of a row if it has not ended.
func (s *Store) live(ctx context.Context, id *uuid.UUID) (*operation.Operation, error) {
	return s.liveOperation(ctx, Record{VM: vm.VM{OperationID: id}})
}

// BeginVolume locks a volume, lets check look at it, and begins an operation on it. An operation of the same kind that is at work on it is
// joined where join is set; any other one is vm.ErrVolumeBusy.
func (s *Store) BeginVolume(ctx context.Context, id uuid.UUID, op operation.New, join bool, check func(vm.Volume) error) (begun operation.Operation, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.VolumeGetForUpdate(ctx, tx, id)
		if err != nil {
			return mapNoRows(err, vm.ErrVolumeNotFound)
		}
		live, err := s.live(ctx, row.OperationID)
		switch {
		case err != nil:
			return err
		case live != nil && live.Kind == op.Kind && join:
			begun = *live
			return nil
		case live != nil:
			return vm.ErrVolumeBusy.WithMeta("operation_id", live.ID.String())
		}
		v, err := volumeOf(row)
		if err != nil {
			return err
		}
		if err := check(v); err != nil {
			return err
		}
		status := row.Status
		if op.Kind == KindVolumeDelete {
			status = volumeDeleting
		}
		if row, err = s.q.VolumeBegin(ctx, tx, vmdb.VolumeBeginParams{ID: id, Status: status, OperationID: &op.ID}); err != nil {
			return err
		}
		op.TargetID, op.TenantID, op.Generation = id, row.TenantID, row.Generation
		begun, err = s.ops.Create(ctx, tx, op)
		return err
	})
	return begun, err
}

// EndVolume is what the end of an operation on a volume does to its row.
func (s *Store) EndVolume(ctx context.Context, tx pgx.Tx, op operation.Operation) error {
	succeeded, change := op.Status == operation.StatusSucceeded, "failed"
	var row vmdb.Volume
	var err error
	if op.Kind == KindVolumeCreate && !succeeded || op.Kind == KindVolumeDelete && succeeded {
		row, err = s.q.VolumeDelete(ctx, tx, op.TargetID)
	} else {
		row, err = s.q.VolumeEnd(ctx, tx, vmdb.VolumeEndParams{ID: op.TargetID, Status: volumeReady})
	}
	metadata := outcome(op)
	switch {
	case !succeeded:
	case op.Kind == KindVolumeCreate:
		change, metadata["size_bytes"], metadata["node_id"] = "created", row.SizeBytes, row.NodeID
	case op.Kind == KindVolumeDelete:
		change = "deleted"
	default: // told when its row got the new size
		return ignoreGone(err)
	}
	return tellRow(ctx, tx, row, err, volumeTold, change, metadata)
}

// SetVolumeSize notes that a volume has grown. It stays so, whatever becomes of the operation that made it grow.
func (s *Store) SetVolumeSize(ctx context.Context, id uuid.UUID, size int64) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.VolumeSetSize(ctx, tx, vmdb.VolumeSetSizeParams{ID: id, SizeBytes: size})
		return tellRow(ctx, tx, row, err, volumeTold, "resized", map[string]any{"size_bytes": size})
	})
}

// SetVolumeUsage notes what the file of a volume takes.
func (s *Store) SetVolumeUsage(ctx context.Context, id uuid.UUID, bytes int64) error {
	return pg.Map(s.q.VolumeSetUsage(ctx, s.pool, vmdb.VolumeSetUsageParams{ID: id, AllocatedBytes: bytes}))
}

// DeleteVolume removes the row of a volume whose file is gone with its virtual machine.
func (s *Store) DeleteVolume(ctx context.Context, id uuid.UUID) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.VolumeDelete(ctx, tx, id)
		return tellRow(ctx, tx, row, err, volumeTold, "deleted", nil)
	})
}

// UndeletedVolumes lists some that are to be deleted and have no virtual machine any more that would see to it.
func (s *Store) UndeletedVolumes(ctx context.Context, limit int) ([]vm.Volume, error) {
	rows, err := s.q.VolumeUndeleted(ctx, s.pool, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("list volumes that are to be deleted: %w", pg.Map(err))
	}
	return volumesOf(rows)
}

// ExistingVolumes tells which of the volumes have a row.
func (s *Store) ExistingVolumes(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	have, err := s.q.VolumeExisting(ctx, s.pool, ids)
	if err != nil {
		return nil, fmt.Errorf("look for volumes: %w", pg.Map(err))
	}
	known := make(map[uuid.UUID]bool, len(have))
	for _, id := range have {
		known[id] = true
	}
	return known, nil
}

// StorageTotals is how much there is of volumes and snapshots.
type StorageTotals struct {
	Volumes, VolumeBytes, VolumeAllocatedBytes, Snapshots, SnapshotBytes int64
}

// StorageTotals counts them, for the metrics.
func (s *Store) StorageTotals(ctx context.Context) (StorageTotals, error) {
	volumes, err := s.q.VolumeTotals(ctx, s.pool)
	if err != nil {
		return StorageTotals{}, fmt.Errorf("count volumes: %w", pg.Map(err))
	}
	snapshots, err := s.q.SnapshotTotals(ctx, s.pool)
	if err != nil {
		return StorageTotals{}, fmt.Errorf("count snapshots: %w", pg.Map(err))
	}
	return StorageTotals{Volumes: volumes.Volumes, VolumeBytes: volumes.SizeBytes, VolumeAllocatedBytes: volumes.AllocatedBytes,
		Snapshots: snapshots.Snapshots, SnapshotBytes: snapshots.SizeBytes}, nil
}

// lockVolume locks a volume that is to be attached, detached or resized by an operation on its virtual machine.
func (s *Store) lockVolume(ctx context.Context, tx pgx.Tx, id uuid.UUID) (vm.Volume, error) {
	row, err := s.q.VolumeGetForUpdate(ctx, tx, id)
	if err != nil {
		return vm.Volume{}, mapNoRows(err, vm.ErrVolumeNotFound)
	}
	live, err := s.live(ctx, row.OperationID)
	if err != nil {
		return vm.Volume{}, err
	}
	if live != nil {
		return vm.Volume{}, vm.ErrVolumeBusy.WithMeta("operation_id", live.ID.String())
	}
	return volumeOf(row)
}

// Attaching gives a volume to a virtual machine, for good unless the operation fails. From here on nobody else can have it.
func (s *Store) Attaching(volume uuid.UUID) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, op operation.Operation) error {
		v, err := s.lockVolume(ctx, tx, volume)
		switch {
		case err != nil:
			return err
		case v.TenantID != r.TenantID:
			return vm.ErrVolumeNotFound
		case v.VMID != nil:
			return vm.ErrVolumeInUse.WithMeta("vm_id", v.VMID.String())
		case v.Status != vm.VolumeAvailable:
			return vm.ErrVolumeNotReady
		case r.NodeID == nil || v.NodeID != *r.NodeID:
			return vm.ErrVolumeElsewhere
		}
		return s.q.VolumeAttach(ctx, tx, vmdb.VolumeAttachParams{ID: volume, VmID: &r.ID, OperationID: &op.ID})
	}
}

// Holding notes that an operation on its virtual machine detaches or resizes a volume.
func (s *Store) Holding(volume uuid.UUID) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, op operation.Operation) error {
		v, err := s.lockVolume(ctx, tx, volume)
		switch {
		case err != nil:
			return err
		case v.VMID == nil || *v.VMID != r.ID:
			return vm.ErrVolumeDetached
		}
		return s.q.VolumeHold(ctx, tx, vmdb.VolumeHoldParams{ID: volume, OperationID: &op.ID})
	}
}

// DeletingVolumes marks the volumes of a virtual machine to be deleted with it.
func (s *Store) DeletingVolumes() Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, op operation.Operation) error {
		return s.q.VolumeDeleteWithVM(ctx, tx, vmdb.VolumeDeleteWithVMParams{VmID: &r.ID, OperationID: &op.ID})
	}
}

// EndDisk is what the end of an operation on a disk of a virtual machine does to both rows. One that was overtaken leaves an attached volume
// attached and one that was to be detached too: whatever overtook it makes the guest have what the rows say.
func (s *Store) EndDisk(ctx context.Context, tx pgx.Tx, op operation.Operation) error {
	if err := s.EndVM(ctx, tx, op); err != nil {
		return err
	}
	volumes, err := s.q.VolumeListByOperation(ctx, tx, op.ID)
	if err != nil {
		return err
	}
	succeeded := op.Status == operation.StatusSucceeded
	overtaken := errors.Is(asError(op.Error), operation.ErrSuperseded)
	detached := op.Kind == KindDiskAttach && !succeeded && !overtaken || op.Kind == KindDiskDetach && succeeded
	metadata := map[string]any{"change": op.Kind, "operation_id": op.ID.String()}
	for _, v := range volumes {
		metadata["volume_id"] = v.ID.String()
		if detached {
			err = s.q.VolumeDetach(ctx, tx, v.ID)
		} else {
			_, err = s.q.VolumeEnd(ctx, tx, vmdb.VolumeEndParams{ID: v.ID, Status: v.Status})
		}
		if err != nil {
			return err
		}
		switch {
		case op.Kind == KindDiskAttach && !detached:
			err = tell(ctx, tx, volumeTold(v), "attached", outcome(op))
		case op.Kind == KindDiskDetach && detached:
			err = tell(ctx, tx, volumeTold(v), "detached", outcome(op))
		case !succeeded && !overtaken:
			err = tell(ctx, tx, volumeTold(v), "failed", outcome(op))
		}
		if err != nil {
			return err
		}
	}
	return s.tellChange(ctx, tx, op, op.TargetID, metadata)
}

// tellChange tells of a change to a virtual machine that is no change of its state, if it succeeded.
func (s *Store) tellChange(ctx context.Context, tx pgx.Tx, op operation.Operation, id uuid.UUID, metadata map[string]any) error {
	if op.Status != operation.StatusSucceeded {
		return nil
	}
	row, err := s.q.VMGet(ctx, tx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := recordOf(row)
	if err != nil {
		return err
	}
	return writeEvent(ctx, tx, r.VM, "updated", metadata)
}

// SetRootSize notes that the root disk has grown, unless a newer generation has taken over.
func (s *Store) SetRootSize(ctx context.Context, id uuid.UUID, generation, bytes int64) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		r, err := s.lockRecord(ctx, tx, id)
		if err != nil {
			return err
		}
		if r.Generation != generation {
			return operation.ErrSuperseded
		}
		r.Resources.DiskGiB = bytes >> 30
		r.Disks[0].SizeBytes = bytes
		return s.q.VMSetDisk(ctx, tx, vmdb.VMSetDiskParams{ID: id, ResourceConfig: mustJSON(r.Resources), StorageConfig: mustJSON(r.Disks)})
	})
}
