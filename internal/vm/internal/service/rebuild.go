package service

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// RebuildRequest says what to make the root disk of a virtual machine from. What is nil is as it was.
type RebuildRequest struct {
	VMID           uuid.UUID
	ImageID        *uuid.UUID
	UserData       *string
	SSHKeys        []string
	Start          *bool // nil: where it was to run
	IdempotencyKey string
}

type rebuildInput struct {
	Start bool `json:"start"`
	WasOn bool `json:"was_on,omitempty"`
}

// Rebuild begins to make the root disk of a virtual machine anew from an image. Name, id, addresses and volumes stay; what the disk holds
// is lost, so it takes the permission to delete.
func (s *Service) Rebuild(ctx context.Context, req RebuildRequest) (operation.Operation, error) {
	r, err := s.recordTo(ctx, req.VMID, "vm:delete")
	if err != nil {
		return operation.Operation{}, err
	}
	wanted := store.Rebuild{ImageID: r.ImageID, UserData: r.UserData, SSHKeys: r.SSHKeys}
	if req.UserData != nil {
		if err := checkUserData(*req.UserData, "body.user_data", vm.ErrInvalid); err != nil {
			return operation.Operation{}, err
		}
		wanted.UserData = *req.UserData
	}
	if req.SSHKeys != nil {
		if wanted.SSHKeys, err = s.publicKeys(ctx, req.SSHKeys, "body.ssh_keys", vm.ErrInvalid); err != nil {
			return operation.Operation{}, err
		}
	}
	if wanted.ImageID, err = s.imageToRebuild(ctx, r, req.ImageID); err != nil {
		return operation.Operation{}, err
	}
	return s.begin(ctx, Request{VMID: req.VMID, IdempotencyKey: req.IdempotencyKey}, store.KindRebuild, "vm:delete",
		func(r store.Record, live *operation.Operation) (store.Intent, error) {
			switch {
			case live != nil && live.Kind != store.KindRebuild:
				return store.Intent{}, vm.ErrLocked.WithMeta("operation_id", live.ID.String())
			case r.Rescuing != nil:
				return store.Intent{}, vm.ErrRescued
			case r.DeleteProtection:
				return store.Intent{}, vm.ErrProtected
			case !r.Provisioned:
				return store.Intent{}, unfinished()
			}
			intent := store.Intent{Kind: store.KindRebuild, Desired: vm.DesiredStopped, Then: s.store.Rebuilding(wanted)}
			in := rebuildInput{Start: r.DesiredState != vm.DesiredStopped, WasOn: r.State == vm.StateRunning || r.State == vm.StatePaused}
			if req.Start != nil {
				in.Start = *req.Start
			}
			if in.Start {
				intent.Desired = vm.DesiredRunning
			}
			intent.Input = in
			return intent, nil
		})
}

// imageToRebuild checks the image that the disk is to be made from.
func (s *Service) imageToRebuild(ctx context.Context, r store.Record, id *uuid.UUID) (uuid.UUID, error) {
	image, err := s.imageFor(ctx, r, id)
	if err != nil {
		return uuid.Nil, err
	}
	return image.ID, rootable(image, r.Disks[0].SizeBytes)
}

// imageFor reads an image that a virtual machine is to have a disk of; nil stands for its own, which is not asked for again.
func (s *Service) imageFor(ctx context.Context, r store.Record, id *uuid.UUID) (vm.Image, error) {
	if id == nil {
		id = &r.ImageID
	}
	if *id != r.ImageID {
		if _, err := s.GetImage(ctx, *id); err != nil {
			return vm.Image{}, named(ctx, err, vm.ErrImageNotFound, "image:read")
		}
	}
	image, err := s.store.GetImage(ctx, *id)
	return image.Image, err
}

// rootable refuses an image that no root disk of this size can be made from.
func rootable(image vm.Image, size int64) error {
	switch {
	case image.Status == vm.ImageFailed:
		return vm.ErrImageFailed
	case image.Status == vm.ImageUploading:
		return vm.ErrImageUploading
	case image.Kind != vm.ImageDisk:
		return vm.ErrImageKind.WithField("body.image_id", "must be an image of kind disk", image.ID.String())
	case size < image.VirtualSizeBytes:
		return vm.ErrInvalid.WithField("body.image_id", fmt.Sprintf("has a disk of %d bytes, and the machine's root disk has %d; grow that first",
			image.VirtualSizeBytes, size), image.ID.String())
	}
	return nil
}

// finishRebuild is where a rebuild loses what the disk held. What comes to start or stop the machine meanwhile finishes it, too: from the
// moment that the store knows of its begin there is no way back.
func (s *Service) finishRebuild(ctx context.Context, r store.Record) error {
	image, err := s.store.GetImage(ctx, r.Rebuild.ImageID)
	if err != nil {
		return err
	}
	if err := rootable(image.Image, r.Disks[0].SizeBytes); err != nil { // its size is known only now
		return err
	}
	if err := s.shutdown(ctx, r, stopInput{Discard: true}); err != nil && !isVanished(err) {
		return err
	}
	if err := s.store.BeginRebuild(ctx, r.ID, r.Generation); err != nil {
		return err
	}
	spec := nodeapi.DiskSpec{Name: rootDisk, ImageSHA256: image.StoredSHA256, SizeBytes: r.Disks[0].SizeBytes}
	err = s.againWithImage(ctx, image.ID, *r.NodeID, func() error { return s.prepare(ctx, r, nodeapi.VerbReplaceDisk, spec) })
	if err != nil {
		return err
	}
	made := r
	made.ImageID, made.UserData, made.SSHKeys = r.Rebuild.ImageID, r.Rebuild.UserData, r.Rebuild.SSHKeys
	seed, err := s.seedFor(ctx, made)
	if err != nil {
		return err
	}
	if err := s.prepare(ctx, r, nodeapi.VerbEnsureSeed, seed); err != nil {
		return err
	}
	return s.store.EndRebuild(ctx, r)
}

// goOnAsBefore powers a guest on again whose rebuild failed before its disk was touched.
func (s *Service) goOnAsBefore(ctx context.Context, run *operation.Run, r store.Record) error {
	var in rebuildInput
	if err := run.Input(&in); err != nil || !in.WasOn || r.Rebuild == nil || r.Rebuild.Begun {
		return err
	}
	return s.startIfPossible(ctx, run, r)
}

func (s *Service) startRebuilt(ctx context.Context, run *operation.Run, r store.Record) error {
	var in rebuildInput
	if err := run.Input(&in); err != nil || !in.Start {
		return err
	}
	return s.start(ctx, run, r)
}
