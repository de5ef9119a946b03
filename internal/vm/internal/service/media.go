package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// isRefusal tells a verdict on the bytes from a failure to look at them.
func isRefusal(err error) bool {
	return errors.Is(err, vm.ErrImageInvalid) || errors.Is(err, vm.ErrImageRefused) || errors.Is(err, vm.ErrImageChecksum) || errors.Is(err, vm.ErrImageTooLarge)
}

// mediaSlots lists the images that settings name beside the disks.
func mediaSlots(v *vm.Settings) []mediaSlot {
	return []mediaSlot{
		{"cdrom_image_id", vm.ImageISO, v.CDROM.ImageID},
		{"direct_boot.kernel_image_id", vm.ImageKernel, v.DirectBoot.KernelImageID},
		{"direct_boot.initrd_image_id", vm.ImageInitrd, v.DirectBoot.InitrdImageID},
	}
}

type mediaSlot struct {
	field string
	kind  vm.ImageKind
	id    *uuid.UUID
}

// checkMedia refuses images that the caller may not use, or that are of another kind. What a machine has already is not asked for again. What is
// wrong is told as an error of the kind invalid, at its place below at.
func (s *Service) checkMedia(ctx context.Context, before, after *vm.Settings, at string, invalid *errs.Error) error {
	had := mediaSlots(before)
	for i, slot := range mediaSlots(after) {
		if slot.id == nil || had[i].id != nil && *had[i].id == *slot.id {
			continue
		}
		image, err := s.GetImage(ctx, *slot.id)
		switch {
		case err != nil:
			return named(ctx, err, vm.ErrImageNotFound, "image:read")
		case image.Status == vm.ImageFailed:
			return vm.ErrImageFailed
		case image.Status == vm.ImageUploading:
			return vm.ErrImageUploading
		case image.Kind != slot.kind:
			return vm.ErrImageKind.WithMessage("an image of kind %s is needed here, and this one is of kind %s", slot.kind, image.Kind).
				WithField(at+slot.field, "must be an image of kind "+string(slot.kind), slot.id.String())
		}
	}
	boot := after.DirectBoot
	if boot.KernelImageID == nil && (boot.InitrdImageID != nil || boot.CommandLine != "") {
		return invalid.WithField(at+"direct_boot.kernel_image_id", "is required where there is an initrd or a command line", "")
	}
	for _, c := range boot.CommandLine {
		if c < ' ' || c == 0x7f {
			return invalid.WithField(at+"direct_boot.command_line", "must hold no control characters", fmt.Sprintf("%q", c))
		}
	}
	return nil
}

// mediaOf names the media of a virtual machine as nodes know them.
func (s *Service) mediaOf(ctx context.Context, v vm.Settings) (nodeapi.Media, error) {
	media := nodeapi.Media{Drive: v.CDROM.Drive}
	for i, to := range []*string{&media.Disc, &media.Kernel, &media.Initrd} {
		slot := mediaSlots(&v)[i]
		if slot.id == nil {
			continue
		}
		image, err := s.store.GetImage(ctx, *slot.id)
		if err != nil {
			return media, err
		}
		switch *to = image.StoredSHA256; {
		case image.Status == vm.ImageFailed:
			return media, vm.ErrImageFailed
		case image.Status != vm.ImageReady:
			return media, vm.ErrImageBusy
		case image.Kind != slot.kind:
			return media, vm.ErrImageKind.WithMessage("the image %q turned out to be of kind %s, not %s", image.Name, image.Kind, slot.kind)
		}
	}
	return media, nil
}

// ensureMedia has the media of a virtual machine on its node, where they stay at its hand whatever becomes of the cache.
func (s *Service) ensureMedia(ctx context.Context, r store.Record) error {
	media, err := s.mediaOf(ctx, r.Settings)
	if err != nil || media == (nodeapi.Media{Drive: media.Drive}) {
		return err
	}
	for _, slot := range mediaSlots(&r.Settings) {
		if slot.id == nil {
			continue
		}
		err := s.againWithImage(ctx, *slot.id, *r.NodeID, func() error { return s.prepare(ctx, r, nodeapi.VerbEnsureMedia, media.Only(string(slot.kind))) })
		if err != nil {
			return err
		}
	}
	return nil
}

// removeMedia undoes the first thing that a node has of a virtual machine with discs or kernels. One without has nothing there yet.
func (s *Service) removeMedia(ctx context.Context, run *operation.Run) error {
	r, err := s.store.GetVM(ctx, run.Operation().TargetID)
	switch {
	case errors.Is(err, vm.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	for _, slot := range mediaSlots(&r.Settings) {
		if slot.id != nil {
			return s.remove(ctx, run)
		}
	}
	return nil
}

// againWithImage does what needs an image in the node's cache, and has it fetched anew where it had to make room meanwhile.
func (s *Service) againWithImage(ctx context.Context, image, node uuid.UUID, do func() error) error {
	err := do()
	if e := errs.From(err); err == nil || e.Code != nodeapi.ErrImageMissing.Code {
		return err
	}
	if _, err := s.pull(ctx, image, node); err != nil {
		return err
	}
	return do()
}

// mediaKind is how nodes keep an image of a kind.
func mediaKind(kind vm.ImageKind) string {
	switch kind {
	case vm.ImageISO:
		return nodeapi.MediaISO
	case vm.ImageKernel, vm.ImageInitrd:
		return nodeapi.MediaBoot
	}
	return ""
}
