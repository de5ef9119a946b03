package service

import (
	"context"
	"errors"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

func (s *Service) snapshotSagas() []operation.Saga {
	end := s.store.EndSnapshot
	return []operation.Saga{
		{Kind: store.KindSnapshotCreate, Deadline: 2 * time.Hour, OnEnd: end, Steps: []operation.Step{
			{Name: "place", Do: s.onSnapshot(s.placeSnapshot), Undo: s.release},
			{Name: "take", Weight: 5, Do: s.onSnapshot(s.takeSnapshot), Undo: s.onSnapshot(s.dropSnapshot)}}},
		{Kind: store.KindSnapshotDelete, Deadline: 24 * time.Hour, OnEnd: end, PointOfNoReturn: "drop", Steps: []operation.Step{
			{Name: "drop", Do: s.onSnapshot(s.dropSnapshot)}, {Name: "release", Do: s.release}}},
		// There is no way back from going back: the node does it for all disks or, when it is interrupted, before the guest next starts.
		{Kind: store.KindSnapshotRevert, Deadline: 2 * time.Hour, OnEnd: end, Steps: []operation.Step{
			{Name: "stop", Do: s.onSnapshot(s.stopForRevert), Undo: s.onSnapshot(s.startAgain)},
			{Name: "revert", Weight: 5, Do: s.onSnapshot(s.revert)},
			{Name: "define", Do: s.onSnapshot(func(ctx context.Context, run *operation.Run, r store.Record, _ store.SnapshotRecord) error {
				return s.define(ctx, run, r)
			})},
			{Name: "start", Do: s.onSnapshot(s.startReverted)}}},
	}
}

type snapshotStep func(context.Context, *operation.Run, store.Record, store.SnapshotRecord) error

// onSnapshot gives a step both rows as they are now, and refuses to act for an intent that a newer one has overtaken. Rows that are gone
// have nothing left to do for.
func (s *Service) onSnapshot(step snapshotStep) func(context.Context, *operation.Run) error {
	return func(ctx context.Context, run *operation.Run) error {
		n, err := s.store.GetSnapshot(ctx, run.Operation().TargetID)
		if errors.Is(err, vm.ErrSnapshotNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		r, err := s.store.GetVM(ctx, n.VMID)
		if err != nil {
			return err
		}
		if r.Generation != run.Operation().Generation {
			return operation.ErrSuperseded
		}
		return step(ctx, run, r, n)
	}
}

// snapshotRef names a snapshot and its disks for the node.
func snapshotRef(n store.SnapshotRecord) nodeapi.SnapshotRef {
	ref := nodeapi.SnapshotRef{ID: n.ID}
	for _, d := range n.Disks {
		if d.VolumeID != nil {
			ref.Volumes = append(ref.Volumes, nodeapi.Volume{ID: *d.VolumeID, Format: string(vm.VolumeQcow2)})
		} else {
			ref.Disks = append(ref.Disks, d.Name)
		}
	}
	return ref
}

func (s *Service) placeSnapshot(ctx context.Context, _ *operation.Run, _ store.Record, n store.SnapshotRecord) error {
	_, err := s.placer.Confirm(ctx, scheduler.ConfirmRequest{VMID: n.ID})
	return err
}

func (s *Service) takeSnapshot(ctx context.Context, run *operation.Run, r store.Record, n store.SnapshotRecord) error {
	var in snapshotInput
	if err := run.Input(&in); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	taken, err := nodeapi.Do[nodeapi.SnapshotTaken](ctx, s.nodes, target(r), nodeapi.VerbTakeSnapshot,
		nodeapi.SnapshotTake{SnapshotRef: snapshotRef(n), Memory: in.Memory, Quiesce: in.Quiesce})
	if err != nil {
		return err
	}
	s.log.InfoContext(ctx, "snapshot taken", "vm_id", r.ID, "snapshot_id", n.ID, "memory", in.Memory, "frozen", taken.Frozen,
		"pause", taken.Pause, "expected_pause_ms", n.ExpectedPauseMS)
	return s.store.SnapshotTaken(ctx, n.ID, taken)
}

func (s *Service) dropSnapshot(ctx context.Context, _ *operation.Run, r store.Record, n store.SnapshotRecord) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	_, err := nodeapi.Do[nodeapi.Empty](ctx, s.nodes, target(r), nodeapi.VerbDropSnapshot, snapshotRef(n))
	return err
}

func (s *Service) stopForRevert(ctx context.Context, _ *operation.Run, r store.Record, _ store.SnapshotRecord) error {
	err := s.shutdown(ctx, r, stopInput{})
	if isVanished(err) { //: the definition comes after the disks
		return nil
	}
	return err
}

// startAgain powers a guest on that was powered off to go back and could not. One that cannot start either stays off: that is told by the
// operation's error, and must not keep the operation from its end.
func (s *Service) startAgain(ctx context.Context, run *operation.Run, r store.Record, _ store.SnapshotRecord) error {
	var in snapshotInput
	if err := run.Input(&in); err != nil || !in.WasOn {
		return err
	}
	return s.startIfPossible(ctx, run, r)
}

// startIfPossible powers a guest on again that an operation has powered off in vain.
func (s *Service) startIfPossible(ctx context.Context, run *operation.Run, r store.Record) error {
	if err := s.start(ctx, run, r); errs.Retryable(err) {
		return err
	} else if err != nil {
		s.log.WarnContext(ctx, "a guest that an operation has powered off in vain cannot start again", "vm_id", r.ID, "error", err)
	}
	return nil
}

func isVanished(err error) bool { return errors.Is(err, nodeapi.ErrNotDefined) }

func (s *Service) revert(ctx context.Context, run *operation.Run, r store.Record, n store.SnapshotRecord) error {
	var in snapshotInput
	if err := run.Input(&in); err != nil {
		return err
	}
	volumes, err := s.store.VolumesOf(ctx, r.ID)
	if err != nil {
		return err
	}
	req := nodeapi.SnapshotRevert{SnapshotRef: snapshotRef(n), Memory: in.Memory}
	for range req.Disks {
		req.Sizes = append(req.Sizes, r.Disks[0].SizeBytes)
	}
	for _, ref := range req.Volumes {
		size := int64(0)
		for _, v := range volumes {
			if v.ID == ref.ID {
				size = v.SizeBytes
			}
		}
		req.Sizes = append(req.Sizes, size)
	}
	_, err = s.command(ctx, r, nodeapi.VerbRevertSnapshot, req, snapshotTimeout)
	return err
}

func (s *Service) startReverted(ctx context.Context, run *operation.Run, r store.Record, _ store.SnapshotRecord) error {
	var in snapshotInput
	if err := run.Input(&in); err != nil || !in.Start {
		return err
	}
	return s.start(ctx, run, r)
}

// releaseSnapshots gives back what the snapshots of a virtual machine that goes are charged with.
func (s *Service) releaseSnapshots(ctx context.Context, run *operation.Run) error {
	snapshots, err := s.store.SnapshotsOf(ctx, run.Operation().TargetID)
	if err != nil {
		return err
	}
	for _, n := range snapshots {
		if err := s.releaseID(ctx, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// unfinishedAge is how long a snapshot stays that failed or was overtaken, for people to see what became of it.
const unfinishedAge = 5 * time.Minute

// SweepSnapshots has snapshots deleted whose making or deletion did not come to its end. A virtual machine that is busy comes next time.
func (s *Service) SweepSnapshots(ctx context.Context) error {
	unfinished, err := s.store.UnfinishedSnapshots(ctx, unfinishedAge, 100)
	if err != nil {
		return err
	}
	var failed error
	for _, n := range unfinished {
		_, err := s.store.Begin(ctx, n.VMID, n.OwnerID, "", func(r store.Record, live *operation.Operation) (store.Intent, error) {
			if live != nil {
				return store.Intent{}, vm.ErrLocked
			}
			return store.Intent{Kind: store.KindSnapshotDelete, Desired: r.DesiredState, TargetID: n.ID, Input: snapshotInput{},
				Then: s.store.MarkingSnapshot(n.ID, vm.SnapshotDeleting)}, nil
		})
		if err != nil && !errors.Is(err, vm.ErrLocked) && !errors.Is(err, vm.ErrNotFound) && !errors.Is(err, vm.ErrSnapshotNotFound) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
