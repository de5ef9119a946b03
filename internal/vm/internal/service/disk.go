package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// maxVolumes is how many volumes a virtual machine can have. The guest's bus has room for them, eight network interfaces and what every
// guest has.
const maxVolumes = 12

// diskInput is the input of the operations on the disks of a virtual machine. A nil volume is the root disk.
type diskInput struct {
	VolumeID  *uuid.UUID `json:"volume_id,omitempty"`
	SizeBytes int64      `json:"size_bytes,omitempty"`
}

func (s *Service) diskSagas() []operation.Saga {
	end := s.store.EndDisk
	return []operation.Saga{
		{Kind: store.KindDiskAttach, Deadline: 30 * time.Minute, OnEnd: end, Steps: []operation.Step{
			{Name: "define", Do: s.onVM(s.define), Undo: s.onVM(s.defineWithout)},
			{Name: "plug", Do: s.onVM(s.plug), Undo: s.onVM(s.unplug)}}},
		{Kind: store.KindDiskDetach, Deadline: 30 * time.Minute, OnEnd: end, Steps: []operation.Step{
			{Name: "unplug", Do: s.onVM(s.unplug), Undo: s.onVM(s.plug)},
			{Name: "define", Do: s.onVM(s.defineWithout), Undo: s.onVM(s.define)}}},
		{Kind: store.KindDiskResize, Deadline: 30 * time.Minute, OnEnd: end, Steps: []operation.Step{
			{Name: "reserve", Do: s.onVM(s.reserveDisk), Undo: s.onVM(s.unreserveDisk)},
			{Name: "grow", Do: s.onVM(s.growDisk)}}},
	}
}

// plug gives a guest that runs the volumes that its row says it has.
func (s *Service) plug(ctx context.Context, run *operation.Run, r store.Record) error {
	if r.Resizing { // a resize was overtaken, which the guest may have followed or not
		if err := errors.Join(s.define(ctx, run, r), s.fit(ctx, r)); err != nil {
			return err
		}
	}
	volumes, err := s.store.VolumesOf(ctx, r.ID)
	if err != nil || len(volumes) == 0 {
		return err
	}
	_, err = s.command(ctx, r, nodeapi.VerbPlugDisks, nodeapi.DiskPlug{Volumes: refs(volumes)}, commandTimeout)
	return err
}

// volumeOfRun reads the volume that an operation is about; false where its row is gone.
func (s *Service) volumeOfRun(ctx context.Context, run *operation.Run) (vm.Volume, bool, error) {
	var in diskInput
	if err := run.Input(&in); err != nil {
		return vm.Volume{}, false, err
	}
	v, err := s.store.GetVolume(ctx, *in.VolumeID)
	if errors.Is(err, vm.ErrVolumeNotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

func (s *Service) unplug(ctx context.Context, run *operation.Run, r store.Record) error {
	v, there, err := s.volumeOfRun(ctx, run)
	if err != nil || !there {
		return err
	}
	_, err = s.command(ctx, r, nodeapi.VerbUnplugDisk, nodeapi.DiskUnplug{Volume: ref(v), Patience: s.cfg.DetachPatience},
		s.cfg.DetachPatience+commandTimeout)
	return err
}

// defineWithout defines the virtual machine without the volume that the operation is about.
func (s *Service) defineWithout(ctx context.Context, run *operation.Run, r store.Record) error {
	var in diskInput
	if err := run.Input(&in); err != nil {
		return err
	}
	volumes, err := s.store.VolumesOf(ctx, r.ID)
	if err != nil {
		return err
	}
	return s.defineWith(ctx, r, slices.DeleteFunc(volumes, func(v vm.Volume) bool { return v.ID == *in.VolumeID }))
}

// bookedSize is how large the disk of an operation is by the books, and under which id its place is known.
func (s *Service) bookedSize(ctx context.Context, run *operation.Run, r store.Record) (place uuid.UUID, size int64, v *vm.Volume, err error) {
	var in diskInput
	if err := run.Input(&in); err != nil {
		return uuid.Nil, 0, nil, err
	}
	if in.VolumeID == nil {
		return r.ID, r.Disks[0].SizeBytes, nil, nil
	}
	volume, err := s.store.GetVolume(ctx, *in.VolumeID)
	return volume.ID, volume.SizeBytes, &volume, err
}

func (s *Service) reserveDisk(ctx context.Context, run *operation.Run, r store.Record) error {
	var in diskInput
	if err := run.Input(&in); err != nil {
		return err
	}
	place, size, _, err := s.bookedSize(ctx, run, r)
	if err != nil {
		return err
	}
	_, err = s.placer.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: place, StorageBytes: max(in.SizeBytes, size)})
	return err
}

// unreserveDisk gives back what the disk has not grown by.
func (s *Service) unreserveDisk(ctx context.Context, run *operation.Run, r store.Record) error {
	place, size, _, err := s.bookedSize(ctx, run, r)
	if errors.Is(err, vm.ErrVolumeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.placer.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: place, StorageBytes: size})
	return err
}

func (s *Service) growDisk(ctx context.Context, run *operation.Run, r store.Record) error {
	var in diskInput
	if err := run.Input(&in); err != nil {
		return err
	}
	_, _, v, err := s.bookedSize(ctx, run, r)
	if err != nil {
		return err
	}
	grow := nodeapi.DiskGrow{Disk: rootDisk, SizeBytes: in.SizeBytes}
	if v != nil {
		volume := ref(*v)
		grow.Disk, grow.Volume = "", &volume
	}
	if _, err := s.command(ctx, r, nodeapi.VerbGrowDisk, grow, commandTimeout); err != nil {
		return err
	}
	if v != nil {
		return s.store.SetVolumeSize(ctx, v.ID, in.SizeBytes)
	}
	return s.store.SetRootSize(ctx, r.ID, r.Generation, in.SizeBytes)
}

// edit begins a change that never overtakes another: it is refused while an operation holds the virtual machine, and before the machine was
// made. A machine in state error can be edited.
func (s *Service) edit(ctx context.Context, req Request, kind, permission string, decide func(store.Record) (store.Intent, error)) (operation.Operation, error) {
	return s.begin(ctx, req, kind, permission, func(r store.Record, live *operation.Operation) (store.Intent, error) {
		if live != nil {
			return store.Intent{}, vm.ErrLocked.WithMeta("operation_id", live.ID.String())
		}
		if err := atHand(r); err != nil { // also because what saved memory knows of its disks must stay true
			return store.Intent{}, err
		}
		intent, err := decide(r)
		intent.Kind = kind
		if intent.Desired == "" {
			intent.Desired = r.DesiredState
		}
		return intent, err
	})
}

// AttachDisk begins to attach a volume.
func (s *Service) AttachDisk(ctx context.Context, vmID, volumeID uuid.UUID, key string) (operation.Operation, error) {
	if _, err := s.recordTo(ctx, vmID, "vm:update"); err != nil {
		return operation.Operation{}, err
	}
	v, err := s.volume(ctx, volumeID, "volume:update")
	if err != nil {
		return operation.Operation{}, named(ctx, err, vm.ErrVolumeNotFound, "volume:read")
	}
	attached, err := s.store.VolumesOf(ctx, vmID)
	if err != nil {
		return operation.Operation{}, err
	}
	return s.edit(ctx, Request{VMID: vmID, IdempotencyKey: key}, store.KindDiskAttach, "vm:update", func(r store.Record) (store.Intent, error) {
		switch {
		case v.VMID != nil && *v.VMID == r.ID && v.Status == vm.VolumeInUse:
			return store.Intent{Done: true}, nil
		case len(attached) >= maxVolumes:
			return store.Intent{}, vm.ErrTooManyDisks.WithMessage("a virtual machine has at most %d volumes", maxVolumes)
		}
		return store.Intent{Input: diskInput{VolumeID: &volumeID}, Then: s.store.Attaching(volumeID)}, nil
	})
}

// DetachDisk begins to detach a volume. The guest has to agree: the operation fails with vm.ErrVolumeHeld where it does not in time.
func (s *Service) DetachDisk(ctx context.Context, vmID, volumeID uuid.UUID) (operation.Operation, error) {
	if _, err := s.recordTo(ctx, vmID, "vm:update"); err != nil {
		return operation.Operation{}, err
	}
	v, err := s.store.GetVolume(ctx, volumeID) // what the machine has shows with the machine
	if errors.Is(err, vm.ErrVolumeNotFound) || err == nil && (v.VMID == nil || *v.VMID != vmID) {
		return operation.Operation{}, vm.ErrDiskNotFound
	}
	if err != nil {
		return operation.Operation{}, err
	}
	snapshots, err := s.store.SnapshotsOf(ctx, vmID)
	if err != nil {
		return operation.Operation{}, err
	}
	for _, snapshot := range snapshots {
		if holds(snapshot, v.ID) {
			return operation.Operation{}, vm.ErrVolumeSnapshots.WithMessage("the snapshot %q holds the volume", snapshot.Name).
				WithMeta("snapshot_id", snapshot.ID.String())
		}
	}
	return s.edit(ctx, Request{VMID: vmID}, store.KindDiskDetach, "vm:update", func(store.Record) (store.Intent, error) {
		return store.Intent{Input: diskInput{VolumeID: &volumeID}, Then: s.store.Holding(volumeID)}, nil
	})
}

// ResizeDisk begins to make a disk of a virtual machine larger: the root disk, or a volume by its id or name.
func (s *Service) ResizeDisk(ctx context.Context, vmID uuid.UUID, disk string, size int64, key string) (operation.Operation, error) {
	r, err := s.recordTo(ctx, vmID, "vm:update")
	if err != nil {
		return operation.Operation{}, err
	}
	in, place, have := diskInput{SizeBytes: size}, r.ID, r.Disks[0].SizeBytes
	var then store.Then
	switch v, err := s.attached(ctx, vmID, disk); {
	case err != nil:
		return operation.Operation{}, err
	case v != nil:
		in.VolumeID, place, have, then = &v.ID, v.ID, v.SizeBytes, s.store.Holding(v.ID)
	case size%gib != 0:
		return operation.Operation{}, vm.ErrVolumeInvalid.WithField("body.size_bytes", "must be a whole number of GiB for a root disk", fmt.Sprint(size))
	}
	if err := s.checkGrowth(ctx, place, have, size); err != nil {
		return operation.Operation{}, err
	}
	return s.edit(ctx, Request{VMID: vmID, IdempotencyKey: key}, store.KindDiskResize, "vm:update", func(r store.Record) (store.Intent, error) {
		if in.VolumeID == nil {
			if r.Rescuing != nil {
				return store.Intent{}, vm.ErrRescued
			}
			have = r.Disks[0].SizeBytes
		}
		return store.Intent{Input: in, Then: then, Done: have == size}, shrinks(have, size)
	})
}

// attached finds a volume of a virtual machine by its id or its name; nil is the root disk.
func (s *Service) attached(ctx context.Context, vmID uuid.UUID, disk string) (*vm.Volume, error) {
	if disk == rootDisk {
		return nil, nil
	}
	volumes, err := s.store.VolumesOf(ctx, vmID)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if v.Name == disk || v.ID.String() == disk {
			return &v, nil
		}
	}
	return nil, vm.ErrDiskNotFound
}

// Disks lists the disks of a virtual machine, the root disk first, with what they take on the node where that answers.
func (s *Service) Disks(ctx context.Context, vmID uuid.UUID) ([]vm.AttachedDisk, error) {
	r, err := s.record(ctx, vmID)
	if err != nil {
		return nil, err
	}
	volumes, err := s.store.VolumesOf(ctx, vmID)
	if err != nil {
		return nil, err
	}
	usage := s.diskUsage(ctx, r, volumes)
	taken := func(match func(nodeapi.FileUsage) bool) *int64 {
		if i := slices.IndexFunc(usage.Disks, match); i >= 0 {
			return &usage.Disks[i].AllocatedBytes
		}
		return nil
	}
	disks := []vm.AttachedDisk{{Name: rootDisk, Format: string(vm.VolumeQcow2), SizeBytes: r.Disks[0].SizeBytes,
		AllocatedBytes: taken(func(u nodeapi.FileUsage) bool { return u.Name == rootDisk })}}
	for _, v := range volumes {
		disks = append(disks, vm.AttachedDisk{Name: v.Name, VolumeID: &v.ID, Serial: v.ID.String()[:vm.SerialLength], Format: string(v.Format),
			SizeBytes: v.SizeBytes, OperationID: v.OperationID, AllocatedBytes: taken(func(u nodeapi.FileUsage) bool { return u.ID == v.ID })})
	}
	return disks, nil
}

// diskUsage asks the node of a virtual machine, briefly.
func (s *Service) diskUsage(ctx context.Context, r store.Record, volumes []vm.Volume) nodeapi.DiskUsage {
	if r.NodeID == nil {
		return nodeapi.DiskUsage{}
	}
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	usage, err := nodeapi.Do[nodeapi.DiskUsage](ctx, s.nodes, nodeapi.Target{NodeID: *r.NodeID, VMID: r.ID}, nodeapi.VerbListDisks,
		nodeapi.DiskList{Disks: []string{rootDisk}, Volumes: refs(volumes)})
	if err != nil {
		s.log.DebugContext(ctx, "the node does not tell what disks take", "vm_id", r.ID, "error", err)
	}
	return usage
}

// withParts adds their volumes to the disks that virtual machines show, and what the last audit found of them.
func (s *Service) withParts(ctx context.Context, vms []vm.VM) error {
	ids := make([]uuid.UUID, len(vms))
	at := make(map[uuid.UUID]int, len(vms))
	for i, m := range vms {
		ids[i], at[m.ID] = m.ID, i
		vms[i].Conditions = s.conditionsOf(m.ID)
	}
	volumes, err := s.store.VolumesOf(ctx, ids...)
	for _, v := range volumes {
		m := &vms[at[*v.VMID]]
		m.Disks = append(m.Disks, vm.Disk{Name: v.Name, VolumeID: &v.ID, SizeBytes: v.SizeBytes})
	}
	return err
}

// leaveVolumes is the part of a deletion that follows the end of the guest: the volumes that were to go with it go, and those that stay
// lose what snapshots of the machine hold in them.
func (s *Service) leaveVolumes(ctx context.Context, run *operation.Run) error {
	id := run.Operation().TargetID
	volumes, err := s.store.VolumesOf(ctx, id)
	if err != nil {
		return err
	}
	snapshots, err := s.store.SnapshotsOf(ctx, id)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if v.Status == vm.VolumeDeleting {
			err = errors.Join(s.removeVolume(ctx, run, v), s.releaseID(ctx, v.ID))
			if err == nil {
				err = s.store.DeleteVolume(ctx, v.ID)
			}
		} else {
			err = s.cleanVolume(ctx, v, snapshots)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) cleanVolume(ctx context.Context, v vm.Volume, snapshots []store.SnapshotRecord) error {
	clean := nodeapi.VolumeClean{Format: string(v.Format)}
	for _, snapshot := range snapshots {
		if holds(snapshot, v.ID) {
			clean.Snapshots = append(clean.Snapshots, snapshot.ID)
		}
	}
	if len(clean.Snapshots) == 0 {
		return nil
	}
	_, err := onFile[nodeapi.Empty](ctx, s, v, nodeapi.VerbCleanVolume, clean, snapshotTimeout)
	return err
}

func (s *Service) releaseID(ctx context.Context, id uuid.UUID) error {
	_, err := s.placer.Release(ctx, scheduler.ReleaseRequest{VMID: id})
	return err
}
