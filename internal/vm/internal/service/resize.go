package service

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// ResizeRequest says how large a virtual machine is to be; what is 0 stays. A flavor stands for all of it, and for the least that the root
// disk has.
type ResizeRequest struct {
	VMID           uuid.UUID
	VCPUs          int
	MemoryMiB      int64
	Flavor         string
	IdempotencyKey string

	diskGiB int64 // of the flavor
}

// resizeInput is the input of a resize, and that of the steps that make the root disk larger, where it is to be.
type resizeInput struct {
	Before       vm.Resources `json:"before"`
	After        vm.Resources `json:"after"`
	FlavorBefore string       `json:"flavor_before,omitempty"`
	FlavorAfter  string       `json:"flavor_after,omitempty"`
	diskInput
}

// Resized is what a resize tells of itself: what the guest has now, and what it takes up only when it is powered on from off.
type Resized struct {
	Applied   string       `json:"applied" enum:"now,next_boot" doc:"now: the guest has all of it, or is off. next_boot: it takes the fields in pending up when it is powered on from off."`
	VCPUs     int          `json:"vcpus" doc:"That the guest has now."`
	MemoryMiB int64        `json:"memory_mib" doc:"That the guest has now."`
	Pending   []vm.Pending `json:"pending" nullable:"false"`
}

// The values of Resized.Applied.
const (
	appliedNow      = "now"
	appliedNextBoot = "next_boot"
)

// Resize begins to change how many vCPUs and how much memory a virtual machine has. What more it needs is looked for before the answer.
// A newer resize overtakes an older one.
func (s *Service) Resize(ctx context.Context, req ResizeRequest) (operation.Operation, error) {
	r, err := s.recordTo(ctx, req.VMID, "vm:update")
	if err != nil {
		return operation.Operation{}, err
	}
	if req.Flavor != "" {
		if req.VCPUs != 0 || req.MemoryMiB != 0 {
			return operation.Operation{}, vm.ErrInvalid.WithField("body.flavor", "cannot stand beside vcpus or memory_mib", req.Flavor)
		}
		f, err := s.flavorNamed(ctx, req.Flavor, "body.flavor", vm.ErrInvalid)
		if err != nil {
			return operation.Operation{}, err
		}
		req.VCPUs, req.MemoryMiB, req.diskGiB = f.Resources.VCPUs, f.Resources.MemoryMiB, f.Resources.DiskGiB
	}
	in, err := resized(r, req)
	if err != nil {
		return operation.Operation{}, err
	}
	key := Request{VMID: req.VMID, IdempotencyKey: req.IdempotencyKey}
	if r.Provisioned && !r.Suspended && r.DesiredState != vm.DesiredDeleted {
		more := r.Resources
		more.VCPUs, more.MemoryMiB = max(more.VCPUs, req.VCPUs), max(more.MemoryMiB, req.MemoryMiB)
		held, err := s.placer.Confirm(ctx, scheduler.ConfirmRequest{VMID: r.ID})
		if err != nil {
			return operation.Operation{}, fmt.Errorf("look at the place: %w", err)
		}
		_, err = s.placer.Resize(ctx, scheduler.ResizeRequest{VMID: r.ID, VCPUs: max(held.Allocation.VCPUs, more.VCPUs),
			MemoryBytes: max(held.Allocation.MemoryBytes, more.MemoryMiB*mib), DryRun: true})
		if err != nil {
			return operation.Operation{}, fmt.Errorf("look for a larger place: %w", err)
		}
		if in.SizeBytes > 0 {
			if err := s.checkGrowth(ctx, r.ID, r.Disks[0].SizeBytes, in.SizeBytes); err != nil {
				return operation.Operation{}, err
			}
		}
	}
	return s.begin(ctx, key, store.KindResize, "vm:update", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		switch {
		case live != nil && live.Kind != store.KindResize:
			return store.Intent{}, vm.ErrLocked.WithMeta("operation_id", live.ID.String())
		case r.Rescuing != nil:
			return store.Intent{}, vm.ErrRescued
		}
		if err := atHand(r); err != nil {
			return store.Intent{}, err
		}
		in, err := resized(r, req)
		return store.Intent{Kind: store.KindResize, Desired: r.DesiredState, Input: in, Then: s.store.Resizing()}, err
	})
}

// resized gives the size that is asked for. A machine that is given numbers is of no flavor any more, unless they are what it has.
func resized(r store.Record, req ResizeRequest) (resizeInput, error) {
	after, in := r.Resources, resizeInput{Before: r.Resources, FlavorBefore: r.Flavor}
	if req.VCPUs == 0 && req.MemoryMiB == 0 {
		return in, vm.ErrInvalid.WithField("body", "must name a flavor, or vcpus, memory_mib or both", "")
	}
	if req.VCPUs != 0 {
		after.VCPUs = req.VCPUs
	}
	if req.MemoryMiB != 0 {
		after.MemoryMiB = req.MemoryMiB
	}
	if n := r.CPU.Count(); n > 0 && after.VCPUs > n {
		field := "body.vcpus"
		if req.Flavor != "" {
			field = "body.flavor"
		}
		return in, vm.ErrInvalid.WithField(field, fmt.Sprintf("has more vCPUs than the %d of the machine's topology", n), strconv.Itoa(after.VCPUs))
	}
	switch have := r.Disks[0].SizeBytes; {
	case req.Flavor == "":
	case req.diskGiB*gib < have:
		return in, vm.ErrInvalid.WithField("body.flavor", fmt.Sprintf("has a root disk of %d GiB, and the machine's has %d; disks do not shrink", req.diskGiB, have/gib), req.Flavor)
	case req.diskGiB*gib > have:
		in.SizeBytes = req.diskGiB * gib
	}
	in.After, in.FlavorAfter = after, req.Flavor
	if req.Flavor == "" && after == r.Resources {
		in.FlavorAfter = r.Flavor
	}
	return in, nil
}

// mayRun tells whether a virtual machine has memory and vCPUs, or has them saved, as far as is known.
func mayRun(r store.Record) bool {
	return r.Observed.State == nodeapi.ObservedRunning || r.Observed.State == nodeapi.ObservedPaused || r.Suspended
}

// trim gives back what a virtual machine that is off holds beyond its size.
func (s *Service) trim(ctx context.Context, r store.Record, held scheduler.Allocation) error {
	if held.VCPUs <= r.Resources.VCPUs && held.MemoryBytes <= r.Resources.MemoryMiB*mib {
		return nil
	}
	_, err := s.placer.Resize(ctx, scheduler.ResizeRequest{VMID: r.ID, VCPUs: r.Resources.VCPUs, MemoryBytes: r.Resources.MemoryMiB * mib})
	return err
}

func afterOf(run *operation.Run, r store.Record) (store.Record, error) {
	var in resizeInput
	err := run.Input(&in)
	r.Resources.VCPUs, r.Resources.MemoryMiB = in.After.VCPUs, in.After.MemoryMiB // the disk may have grown since
	return r, err
}

// reserveSize takes the larger of what the virtual machine has and is to have. An overtaken resize may have taken more, which its guest
// may have.
func (s *Service) reserveSize(ctx context.Context, run *operation.Run, r store.Record) error {
	after, err := afterOf(run, r)
	if err != nil {
		return err
	}
	held, err := s.placer.Confirm(ctx, scheduler.ConfirmRequest{VMID: r.ID})
	if err != nil {
		return err
	}
	_, err = s.placer.Resize(ctx, scheduler.ResizeRequest{VMID: r.ID,
		VCPUs:       max(held.Allocation.VCPUs, r.Resources.VCPUs, after.Resources.VCPUs),
		MemoryBytes: max(held.Allocation.MemoryBytes, r.Resources.MemoryMiB*mib, after.Resources.MemoryMiB*mib)})
	if err != nil {
		return err
	}
	return s.reserveDisk(ctx, run, r)
}

// undoResize gives guest and place the size of the row again. A disk that has grown stays so, and so does its row.
func (s *Service) undoResize(ctx context.Context, run *operation.Run, r store.Record) error {
	if err := s.fit(ctx, r); err != nil {
		return err
	}
	return s.unreserveDisk(ctx, run, r)
}

// growRoot makes the root disk as large as the flavor has it, which cannot be undone.
func (s *Service) growRoot(ctx context.Context, run *operation.Run, r store.Record) error {
	var in resizeInput
	if err := run.Input(&in); err != nil || in.SizeBytes == 0 {
		return err
	}
	return s.growDisk(ctx, run, r)
}

func (s *Service) defineSize(ctx context.Context, run *operation.Run, r store.Record) error {
	after, err := afterOf(run, r)
	if err != nil {
		return err
	}
	return s.define(ctx, run, after)
}

func (s *Service) applySize(ctx context.Context, run *operation.Run, r store.Record) error {
	after, err := afterOf(run, r)
	if err != nil {
		return err
	}
	result, err := s.apply(ctx, after)
	if err != nil {
		return err
	}
	return run.SetState(ctx, result)
}

// apply asks the guest to take up the size that r has, and notes what it does not.
func (s *Service) apply(ctx context.Context, r store.Record) (Resized, error) {
	cmd, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	got, err := nodeapi.Do[nodeapi.Resized](cmd, s.nodes, target(r), nodeapi.VerbResize,
		nodeapi.Resize{VCPUs: r.Resources.VCPUs, MemoryBytes: r.Resources.MemoryMiB * mib})
	if err != nil {
		return Resized{}, err
	}
	if _, err := s.store.Observe(ctx, *r.NodeID, 0, got.Status); err != nil {
		return Resized{}, err
	}
	result := Resized{Applied: appliedNow, VCPUs: r.Resources.VCPUs, MemoryMiB: r.Resources.MemoryMiB, Pending: []vm.Pending{}}
	pending := slices.DeleteFunc(slices.Clone(r.Pending), func(p vm.Pending) bool { return strings.HasPrefix(p.Field, "resources.") })
	if got.On {
		result.VCPUs, result.MemoryMiB = got.VCPUs, got.MemoryBytes/mib
		if result.VCPUs != r.Resources.VCPUs {
			result.Pending = append(result.Pending, vm.Pending{Field: "resources.vcpus", Active: strconv.Itoa(result.VCPUs)})
		}
		if result.MemoryMiB != r.Resources.MemoryMiB {
			result.Pending = append(result.Pending, vm.Pending{Field: "resources.memory_mib", Active: strconv.FormatInt(result.MemoryMiB, 10)})
		}
		if len(result.Pending) > 0 {
			result.Applied = appliedNextBoot
		}
	} else {
		pending = []vm.Pending{}
	}
	return result, s.store.SetPending(ctx, r.ID, r.Generation, append(pending, result.Pending...))
}

// fit makes guest and place what the row says, as far as the guest goes along.
func (s *Service) fit(ctx context.Context, r store.Record) error {
	now, err := s.apply(ctx, r)
	if err != nil {
		return err
	}
	_, err = s.placer.Resize(ctx, scheduler.ResizeRequest{VMID: r.ID, VCPUs: max(now.VCPUs, r.Resources.VCPUs),
		MemoryBytes: max(now.MemoryMiB, r.Resources.MemoryMiB) * mib})
	return err
}

func (s *Service) bookSize(ctx context.Context, run *operation.Run, r store.Record) error {
	var in resizeInput
	if err := run.Input(&in); err != nil {
		return err
	}
	after, err := afterOf(run, r)
	if err != nil {
		return err
	}
	return s.store.SetResources(ctx, r.ID, r.Generation, after.Resources, in.FlavorAfter)
}

func (s *Service) unbookSize(ctx context.Context, run *operation.Run, r store.Record) error {
	var in resizeInput
	if err := run.Input(&in); err != nil {
		return err
	}
	before := r.Resources
	before.VCPUs, before.MemoryMiB = in.Before.VCPUs, in.Before.MemoryMiB
	return s.store.SetResources(ctx, r.ID, r.Generation, before, in.FlavorBefore)
}

// shrinkPlace gives back what neither the guest nor its definition needs. What a guest still has goes when it is off.
func (s *Service) shrinkPlace(ctx context.Context, run *operation.Run, r store.Record) error {
	var now Resized
	if err := run.State(&now); err != nil {
		return err
	}
	_, err := s.placer.Resize(ctx, scheduler.ResizeRequest{VMID: r.ID, VCPUs: max(now.VCPUs, r.Resources.VCPUs),
		MemoryBytes: max(now.MemoryMiB, r.Resources.MemoryMiB) * mib})
	return err
}
