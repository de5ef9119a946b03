package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// maxSnapshots is how many snapshots a virtual machine can have. Each makes the next change of a disk a little dearer.
const maxSnapshots = 64

// snapshotTimeout is how long a step may wait for a node's work on a snapshot, which grows with disks and memory.
const snapshotTimeout = time.Hour

// CreateSnapshotRequest says what to take.
type CreateSnapshotRequest struct {
	VMID              uuid.UUID
	Name, Description string // an empty name is made of the time
	Memory            bool
	Quiesce           nodeapi.Quiesce
	IdempotencyKey    string
}

type snapshotInput struct {
	Memory  bool            `json:"memory"`
	Quiesce nodeapi.Quiesce `json:"quiesce,omitempty"`
	WasOn   bool            `json:"was_on,omitempty"` // the guest ran before it went back
	Start   bool            `json:"start,omitempty"`
}

// holds tells whether a snapshot is in a volume, too.
func holds(r store.SnapshotRecord, volume uuid.UUID) bool {
	return slices.ContainsFunc(r.Disks, func(d vm.SnapshotDisk) bool { return d.VolumeID != nil && *d.VolumeID == volume })
}

// snapshotTarget reads a virtual machine, its volumes and their usage for a snapshot.
func (s *Service) snapshotTarget(ctx context.Context, id uuid.UUID, memory bool, permission string) (r store.Record, volumes []vm.Volume, usage nodeapi.DiskUsage, err error) {
	if r, err = s.recordTo(ctx, id, permission); err != nil {
		return r, nil, usage, err
	}
	switch {
	case r.Rebuild != nil:
		return r, nil, usage, vm.ErrRebuildPending
	case r.Rescuing != nil:
		return r, nil, usage, vm.ErrRescued
	}
	if volumes, err = s.store.VolumesOf(ctx, id); err != nil {
		return r, nil, usage, err
	}
	for _, v := range volumes {
		if v.Format != vm.VolumeQcow2 {
			return r, nil, usage, vm.ErrSnapshotRaw.WithMessage("the volume %q is %s, which cannot hold a snapshot", v.Name, v.Format).
				WithMeta("volume_id", v.ID.String())
		}
	}
	if memory && r.State != vm.StateRunning && r.State != vm.StatePaused {
		return r, nil, usage, vm.ErrSnapshotMemory
	}
	return r, volumes, s.diskUsage(ctx, r, volumes), nil
}

// Figures behind the expected pause, measured with QEMU 7.2 under emulation on two processors and rounded up. Without memory it is the time
// that QEMU takes to count the clusters of 64 KiB that the disks have; with memory that of writing the memory, which may be anything from
// nearly empty to full, and is taken as full here.
const (
	pauseBase       = 50 * time.Millisecond
	pauseFreeze     = 250 * time.Millisecond // a guest agent flushes first
	clusterBytes    = 64 << 10
	clustersPerMS   = 500
	memoryBytesPerS = 256 << 20
)

// estimate tells what a snapshot would come to. Disks whose usage is not known count as full.
func estimate(r store.Record, volumes []vm.Volume, usage nodeapi.DiskUsage, memory bool) vm.SnapshotEstimate {
	e := vm.SnapshotEstimate{Disks: []vm.SnapshotDisk{{Name: rootDisk, SizeBytes: r.Disks[0].SizeBytes}}}
	taken := func(full int64, match func(nodeapi.FileUsage) bool) int64 {
		if i := slices.IndexFunc(usage.Disks, match); i >= 0 {
			return min(usage.Disks[i].AllocatedBytes, full)
		}
		return full
	}
	disks := taken(r.Disks[0].SizeBytes, func(u nodeapi.FileUsage) bool { return u.Name == rootDisk })
	for _, v := range volumes {
		e.Disks = append(e.Disks, vm.SnapshotDisk{Name: v.Name, VolumeID: &v.ID, SizeBytes: v.SizeBytes})
		disks += taken(v.SizeBytes, func(u nodeapi.FileUsage) bool { return u.ID == v.ID })
	}
	e.SizeBytes = disks
	on := r.State == vm.StateRunning || r.State == vm.StatePaused
	pause := pauseBase + time.Duration(disks/clusterBytes/clustersPerMS)*time.Millisecond
	switch {
	case memory:
		bytes := r.Resources.MemoryMiB * mib
		e.SizeBytes += bytes
		pause += time.Duration(float64(bytes) / memoryBytesPerS * float64(time.Second))
	case !on:
		pause = 0
	case usage.Agent && r.State == vm.StateRunning:
		e.Freezes = true
		pause += pauseFreeze
	}
	e.ExpectedPauseMS = pause.Milliseconds()
	return e
}

// EstimateSnapshot tells what a snapshot would come to, and takes none.
func (s *Service) EstimateSnapshot(ctx context.Context, req CreateSnapshotRequest) (vm.SnapshotEstimate, error) {
	r, volumes, usage, err := s.snapshotTarget(ctx, req.VMID, req.Memory, "snapshot:read")
	if err != nil {
		return vm.SnapshotEstimate{}, err
	}
	if req.Quiesce == nodeapi.QuiesceOff {
		usage.Agent = false
	}
	return estimate(r, volumes, usage, req.Memory), nil
}

// CreateSnapshot begins to take a snapshot. What it will pin is charged to the quota before the answer.
func (s *Service) CreateSnapshot(ctx context.Context, req CreateSnapshotRequest) (operation.Operation, error) {
	p := caller(ctx)
	if req.IdempotencyKey != "" {
		if op, ok, err := s.ops.FindByIdempotencyKey(ctx, p.UserID, store.KindSnapshotCreate, req.IdempotencyKey); err != nil || ok {
			return op, err
		}
	}
	r, volumes, usage, err := s.snapshotTarget(ctx, req.VMID, req.Memory, "snapshot:create")
	if err != nil {
		return operation.Operation{}, err
	}
	have, err := s.store.SnapshotsOf(ctx, r.ID)
	if err != nil {
		return operation.Operation{}, err
	}
	id := newID()
	if req.Name == "" {
		req.Name = "snapshot-" + time.Now().UTC().Format("20060102-150405") + "-" + id.String()[32:]
	}
	switch {
	case len(have) >= maxSnapshots:
		return operation.Operation{}, vm.ErrSnapshotTooMany.WithMessage("a virtual machine has at most %d snapshots", maxSnapshots)
	case slices.ContainsFunc(have, func(o store.SnapshotRecord) bool { return o.Name == req.Name }):
		return operation.Operation{}, vm.ErrSnapshotTaken
	}
	if req.Quiesce == nodeapi.QuiesceOff {
		usage.Agent = false
	}
	expect := estimate(r, volumes, usage, req.Memory)
	n := store.SnapshotRecord{
		Snapshot: vm.Snapshot{ID: id, Name: req.Name, Description: req.Description, Memory: req.Memory, OwnerID: p.UserID,
			VMState: string(r.State), SizeBytes: expect.SizeBytes, ExpectedPauseMS: expect.ExpectedPauseMS},
		Config: configOf(r, expect.Disks),
	}
	if r.NodeID == nil {
		return operation.Operation{}, wrongState(r, "held in a snapshot", "on a node")
	}
	if _, err := s.placer.Reserve(ctx, scheduler.ReserveRequest{Kind: scheduler.AllocationSnapshot, VMID: n.ID, TenantID: r.TenantID,
		NodeID: r.NodeID, StorageBytes: n.SizeBytes, TTL: s.cfg.ReservationTTL}); err != nil {
		return operation.Operation{}, fmt.Errorf("reserve storage: %w", err)
	}
	op, err := s.edit(ctx, Request{VMID: r.ID, IdempotencyKey: req.IdempotencyKey}, store.KindSnapshotCreate, "snapshot:create",
		func(now store.Record) (store.Intent, error) {
			switch {
			case req.Memory && now.State != vm.StateRunning && now.State != vm.StatePaused:
				return store.Intent{}, vm.ErrSnapshotMemory
			case now.State == vm.StateError:
				return store.Intent{}, wrongState(now, "held in a snapshot", "running, paused or stopped")
			case now.Generation != r.Generation: // what was looked at is not what is there now
				return store.Intent{}, vm.ErrLocked.WithMessage("the virtual machine has changed meanwhile").WithRetryable(true)
			}
			return store.Intent{TargetID: n.ID, Input: snapshotInput{Memory: req.Memory, Quiesce: req.Quiesce}, Then: s.store.InsertingSnapshot(n)}, nil
		})
	if err != nil || op.TargetID != n.ID {
		s.giveBack(ctx, n.ID)
	}
	return op, err
}

func configOf(r store.Record, disks []vm.SnapshotDisk) store.SnapshotConfig {
	config := store.SnapshotConfig{VCPUs: r.Resources.VCPUs, MemoryMiB: r.Resources.MemoryMiB, MACs: []string{}, Disks: disks}
	for _, nic := range r.Networks {
		config.MACs = append(config.MACs, nic.MAC)
	}
	return config
}

// snapshot reads a snapshot of a virtual machine to which the caller may do what permission names.
func (s *Service) snapshot(ctx context.Context, vmID, id uuid.UUID, permission string) (store.Record, store.SnapshotRecord, error) {
	r, err := s.recordTo(ctx, vmID, permission)
	if err != nil {
		return r, store.SnapshotRecord{}, err
	}
	n, err := s.store.GetSnapshot(ctx, id)
	if err == nil && n.VMID != r.ID {
		err = vm.ErrSnapshotNotFound
	}
	if err != nil {
		return r, store.SnapshotRecord{}, err
	}
	return r, shown(r, n), nil
}

func shown(r store.Record, n store.SnapshotRecord) store.SnapshotRecord {
	n.Current = r.CurrentSnapshot != nil && *r.CurrentSnapshot == n.ID
	return n
}

// GetSnapshot reads a snapshot.
func (s *Service) GetSnapshot(ctx context.Context, vmID, id uuid.UUID) (vm.Snapshot, error) {
	_, n, err := s.snapshot(ctx, vmID, id, "snapshot:read")
	return n.Snapshot, err
}

// ListSnapshots lists the snapshots of a virtual machine, newest first.
func (s *Service) ListSnapshots(ctx context.Context, vmID uuid.UUID, after *httpx.Cursor, limit int) ([]vm.Snapshot, error) {
	r, err := s.recordTo(ctx, vmID, "snapshot:read")
	if err != nil {
		return nil, err
	}
	before, beforeID := position(after)
	records, err := s.store.ListSnapshots(ctx, vmID, before, beforeID, limit)
	list := make([]vm.Snapshot, len(records))
	for i, n := range records {
		list[i] = shown(r, n).Snapshot
	}
	return list, err
}

// DeleteSnapshot begins to delete a snapshot. What only it held is given back; what comes after it stays as it is.
func (s *Service) DeleteSnapshot(ctx context.Context, vmID, id uuid.UUID) (operation.Operation, error) {
	_, n, err := s.snapshot(ctx, vmID, id, "snapshot:delete")
	if err != nil {
		return operation.Operation{}, err
	}
	return s.edit(ctx, Request{VMID: vmID}, store.KindSnapshotDelete, "snapshot:delete", func(store.Record) (store.Intent, error) {
		return store.Intent{TargetID: n.ID, Input: snapshotInput{}, Then: s.store.MarkingSnapshot(n.ID, vm.SnapshotDeleting)}, nil
	})
}

// RevertRequest says how to go back to a snapshot.
type RevertRequest struct {
	VMID, SnapshotID uuid.UUID
	Memory           *bool // nil: where the snapshot has it
	Start            *bool // disks alone: power on afterwards; nil: where the guest is on now
	IdempotencyKey   string
}

// RevertSnapshot begins to take a virtual machine back to a snapshot. What its disks hold now is lost unless another snapshot holds it.
func (s *Service) RevertSnapshot(ctx context.Context, req RevertRequest) (operation.Operation, error) {
	_, n, err := s.snapshot(ctx, req.VMID, req.SnapshotID, "snapshot:revert")
	if err != nil {
		return operation.Operation{}, err
	}
	in := snapshotInput{Memory: n.Memory}
	if req.Memory != nil {
		in.Memory = *req.Memory
	}
	switch {
	case n.Status != vm.SnapshotReady:
		return operation.Operation{}, vm.ErrSnapshotNotReady.WithMeta("status", string(n.Status))
	case in.Memory && !n.Memory:
		return operation.Operation{}, vm.ErrSnapshotMemory.WithMessage("the snapshot holds no memory").WithAction("Go back to its disks alone.")
	}
	volumes, err := s.store.VolumesOf(ctx, req.VMID)
	if err != nil {
		return operation.Operation{}, err
	}
	return s.edit(ctx, Request{VMID: req.VMID, IdempotencyKey: req.IdempotencyKey}, store.KindSnapshotRevert, "snapshot:revert",
		func(r store.Record) (store.Intent, error) {
			if r.Rescuing != nil {
				return store.Intent{}, vm.ErrRescued
			}
			in.WasOn = r.State == vm.StateRunning || r.State == vm.StatePaused
			in.Start = in.WasOn
			intent := store.Intent{TargetID: n.ID, Desired: vm.DesiredStopped, Then: s.store.MarkingSnapshot(n.ID, vm.SnapshotReady)}
			if in.Memory {
				if err := fits(r, volumes, n.Config); err != nil {
					return intent, err
				}
				in.Start, intent.Desired = false, vm.Desired(n.VMState)
			} else {
				if req.Start != nil {
					in.Start = *req.Start
				}
				if in.Start {
					intent.Desired = vm.DesiredRunning
				}
			}
			intent.Input = in
			return intent, nil
		})
}

// fits refuses to put memory into a virtual machine that has become another one.
func fits(r store.Record, volumes []vm.Volume, config store.SnapshotConfig) error {
	e := vm.ErrSnapshotConfig.WithAction(`Undo what has changed, or go back to the disks alone with "memory": false.`)
	fields := 0
	differs := func(what string, then, now any) {
		fields++
		e = e.WithField(what, fmt.Sprintf("was %v and is %v", then, now), "")
	}
	if config.VCPUs != r.Resources.VCPUs {
		differs("resources.vcpus", config.VCPUs, r.Resources.VCPUs)
	}
	if config.MemoryMiB != r.Resources.MemoryMiB {
		differs("resources.memory_mib", config.MemoryMiB, r.Resources.MemoryMiB)
	}
	now := configOf(r, nil)
	slices.Sort(now.MACs)
	then := slices.Sorted(slices.Values(config.MACs))
	if !slices.Equal(then, now.MACs) {
		differs("networks", then, now.MACs)
	}
	had, have := 0, 0
	for _, d := range config.Disks {
		if d.VolumeID != nil {
			had++
			have += len(slices.DeleteFunc(slices.Clone(volumes), func(v vm.Volume) bool { return v.ID != *d.VolumeID }))
		}
	}
	if had != len(volumes) || have != had {
		differs("disks", fmt.Sprintf("%d volumes", had), fmt.Sprintf("%d, of which %d are the same", len(volumes), have))
	}
	if fields > 0 {
		return e
	}
	return nil
}
