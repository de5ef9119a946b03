package service

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// rescueDisk is the name of the disk that a virtual machine in rescue boots from.
const rescueDisk = "rescue"

// rescueRoom is what the disk of a rescue has beyond its image, for tools and for what is saved on the way.
const rescueRoom = 2 * gib

type rescueInput struct {
	WasOn bool `json:"was_on,omitempty"`
}

// Rescue begins to boot a virtual machine from another image, nil for the one that it was made from, with its own disks behind it. Who holds that
// system holds all that is on them, so it takes the permission that a rebuild takes.
func (s *Service) Rescue(ctx context.Context, req Request, imageID *uuid.UUID) (operation.Operation, error) {
	r, err := s.recordTo(ctx, req.VMID, "vm:delete")
	if err != nil {
		return operation.Operation{}, err
	}
	image, err := s.imageFor(ctx, r, imageID)
	if err == nil {
		err = rootable(image, image.VirtualSizeBytes)
	}
	if err == nil && r.Provisioned && r.Rescuing == nil { // its size is 0 as long as it is not known
		err = s.book(ctx, scheduler.ResizeStorageRequest{VMID: r.ID, StorageBytes: bookedOf(r) + image.VirtualSizeBytes + rescueRoom, DryRun: true})
	}
	if err != nil {
		return operation.Operation{}, err
	}
	return s.begin(ctx, req, store.KindRescue, "vm:delete", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		switch {
		case live != nil && live.Kind != store.KindRescue && live.Kind != store.KindUnrescue:
			return store.Intent{}, vm.ErrLocked.WithMeta("operation_id", live.ID.String())
		case live == nil && isRescued(r):
			return store.Intent{}, vm.ErrRescued
		case r.Rebuild != nil:
			return store.Intent{}, vm.ErrRebuildPending
		}
		if err := atHand(r); err != nil {
			return store.Intent{}, err
		}
		return store.Intent{Kind: store.KindRescue, Desired: vm.DesiredRunning, Then: s.store.Rescuing(store.Rescue{ImageID: image.ID, Grace: s.grace(req)}),
			Input: rescueInput{WasOn: r.State == vm.StateRunning || r.State == vm.StatePaused}}, nil
	})
}

// Unrescue begins to end a rescue: the virtual machine is shut down and boots its own system again.
func (s *Service) Unrescue(ctx context.Context, req Request) (operation.Operation, error) {
	return s.begin(ctx, req, store.KindUnrescue, "vm:delete", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		switch {
		case live != nil && live.Kind != store.KindRescue && live.Kind != store.KindUnrescue:
			return store.Intent{}, vm.ErrLocked.WithMeta("operation_id", live.ID.String())
		case r.Rescuing == nil:
			return store.Intent{}, vm.ErrNotRescued
		}
		return store.Intent{Kind: store.KindUnrescue, Desired: vm.DesiredRunning, Then: s.store.Leaving(s.grace(req))}, nil
	})
}

// isEntering tells whether a rescue has begun whose disk is not known to be there.
func isEntering(r store.Record) bool {
	return r.Rescuing != nil && (r.Rescuing.Phase == store.RescueWanted || r.Rescuing.Phase == store.RescueBegun)
}

func isRescued(r store.Record) bool {
	return r.Rescuing != nil && r.Rescuing.Phase == store.RescueOn
}

func isLeaving(r store.Record) bool {
	return r.Rescuing != nil && r.Rescuing.Phase == store.RescueLeaving
}

// bookedOf is how much storage the place of a virtual machine has.
func bookedOf(r store.Record) int64 { return r.Resources.DiskGiB*gib + r.Rescuing.Booked() }

func (s *Service) book(ctx context.Context, req scheduler.ResizeStorageRequest) error {
	if _, err := s.placer.ResizeStorage(ctx, req); err != nil {
		return fmt.Errorf("take room for the disk of a rescue: %w", err)
	}
	return nil
}

// bootRescue has the disk of a rescue booted before all others, and no kernel of the machine's own.
func bootRescue(spec *nodeapi.DomainSpec) {
	spec.Disks = append([]string{rescueDisk}, spec.Disks...)
	if boot := &spec.Hardware.Boot; len(*boot) > 0 {
		*boot = slices.Insert(slices.Clone(*boot), 0, rescueDisk)
	}
	spec.Kernel, spec.Initrd, spec.CommandLine = "", "", ""
}

// enterRescue makes the disk of a rescue. What comes to start or stop the machine meanwhile does it, too: it makes true what the row says.
func (s *Service) enterRescue(ctx context.Context, r store.Record) error {
	image, err := s.store.GetImage(ctx, r.Rescuing.ImageID)
	if err != nil {
		return err
	}
	if err := rootable(image.Image, image.VirtualSizeBytes); err != nil { // what it is may be known only now
		return err
	}
	size := image.VirtualSizeBytes + rescueRoom
	if err := s.book(ctx, scheduler.ResizeStorageRequest{VMID: r.ID, StorageBytes: r.Resources.DiskGiB*gib + size}); err != nil {
		return err
	}
	if err := s.shutdown(ctx, r, stopInput{Grace: r.Rescuing.Grace, Discard: true}); err != nil && !isVanished(err) {
		return err
	}
	if err := s.store.BeginRescue(ctx, r, size); err != nil {
		return err
	}
	spec := nodeapi.DiskSpec{Name: rescueDisk, ImageSHA256: image.StoredSHA256, SizeBytes: size}
	err = s.againWithImage(ctx, image.ID, *r.NodeID, func() error { return s.prepare(ctx, r, nodeapi.VerbReplaceDisk, spec) })
	if err != nil {
		return err
	}
	return s.store.EnterRescue(ctx, r, size)
}

// leaveRescue removes all of a rescue: first from the definition, then the disk, and the row knows of it until the end.
func (s *Service) leaveRescue(ctx context.Context, r store.Record) error {
	if err := s.shutdown(ctx, r, stopInput{Grace: r.Rescuing.Grace, Discard: true}); err != nil && !isVanished(err) {
		return err
	}
	own := r
	own.Rescuing = nil
	if err := s.define(ctx, nil, own); err != nil {
		return err
	}
	if err := s.prepare(ctx, r, nodeapi.VerbDropDisk, nodeapi.DiskRef{Name: rescueDisk}); err != nil {
		return err
	}
	if err := s.book(ctx, scheduler.ResizeStorageRequest{VMID: r.ID, StorageBytes: bookedOf(own)}); err != nil {
		return err
	}
	return s.store.EndRescue(ctx, r)
}

// undoRescue gives a machine whose rescue failed its own system again, and powers it on if it was.
func (s *Service) undoRescue(ctx context.Context, run *operation.Run, r store.Record) error {
	var in rescueInput
	if err := run.Input(&in); err != nil {
		return err
	}
	switch {
	case r.Rescuing == nil: // undone already
	case r.Rescuing.Phase == store.RescueWanted: // the row forgets it with the operation's end
		if err := s.book(ctx, scheduler.ResizeStorageRequest{VMID: r.ID, StorageBytes: bookedOf(r)}); err != nil {
			return err
		}
	default:
		r.Rescuing.Grace = 0 // what has just come on has nothing to lose
		if err := s.leaveRescue(ctx, r); err != nil {
			return err
		}
	}
	if !in.WasOn {
		return nil
	}
	return s.startIfPossible(ctx, run, r)
}
