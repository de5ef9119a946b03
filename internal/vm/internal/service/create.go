package service

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

const invalidName = "must be an RFC 1123 label: 1 to 63 of a-z, 0-9 and '-', not at either end"

// nameRule is an RFC 1123 label.
var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Create begins to make a virtual machine. Its place is reserved and its quota charged before the answer, so that what does not
// fit is refused at once and leaves no row.
func (s *Service) Create(ctx context.Context, req vm.CreateVMRequest) (operation.Operation, error) {
	p := caller(ctx)
	if req.IdempotencyKey != "" {
		if op, ok, err := s.ops.FindByIdempotencyKey(ctx, p.UserID, store.KindCreate, req.IdempotencyKey); err != nil || ok {
			return op, err
		}
	}
	req, err := s.fromTemplate(ctx, req)
	if err != nil {
		return operation.Operation{}, err
	}
	r, err := s.recordFor(ctx, req)
	if err != nil {
		return operation.Operation{}, err
	}
	return s.reserveAndInsert(ctx, r, store.KindCreate, req.IdempotencyKey)
}

// reserveAndInsert takes a place for a new virtual machine, on its node where it has one already, and begins to make it.
func (s *Service) reserveAndInsert(ctx context.Context, r store.Record, kind, key string) (operation.Operation, error) {
	reserved, err := s.placer.Reserve(ctx, scheduler.ReserveRequest{
		VMID: r.ID, TenantID: r.TenantID, NodeID: r.NodeID, VCPUs: r.Resources.VCPUs, MemoryBytes: r.Resources.MemoryMiB * mib,
		StorageBytes: r.Resources.DiskGiB * gib, HypervisorType: r.HypervisorType, TTL: s.cfg.ReservationTTL,
	})
	if err != nil {
		return operation.Operation{}, fmt.Errorf("reserve a place: %w", err)
	}
	r.NodeID = &reserved.Allocation.NodeID
	op, err := s.insert(ctx, r, kind, key)
	if err != nil {
		// Undo at once what would otherwise wait for its expiry; the request may be gone already.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, rErr := s.placer.Release(undo, scheduler.ReleaseRequest{VMID: r.ID}); rErr != nil {
			s.log.WarnContext(ctx, "reservation is left to expire", "vm_id", r.ID, "error", rErr)
		}
		return operation.Operation{}, err
	}
	return op, nil
}

// insert writes the row and its operation, with MAC and IP addresses drawn anew until they are free.
func (s *Service) insert(ctx context.Context, r store.Record, kind, key string) (operation.Operation, error) {
	wanted := append([]vm.Interface{}, r.Networks...)
	for range drawTries {
		if err := s.draw(ctx, r.Networks, wanted); err != nil {
			return operation.Operation{}, err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return operation.Operation{}, fmt.Errorf("make operation id: %w", err)
		}
		op, err := s.store.CreateVM(ctx, r, operation.New{ID: id, Kind: kind, TargetID: r.ID, TenantID: r.TenantID,
			RequestedBy: caller(ctx).UserID, Generation: 1, Input: createInput{Start: r.DesiredState == vm.DesiredRunning}, IdempotencyKey: key})
		if again, err := drawAgain(wanted, err); !again {
			return op, err
		}
	}
	return operation.Operation{}, vm.ErrAddressesAreUsed
}

// recordFor checks a request in full and makes the row that it asks for.
func (s *Service) recordFor(ctx context.Context, req vm.CreateVMRequest) (store.Record, error) {
	p := caller(ctx)
	if !nameRule.MatchString(req.Name) {
		return store.Record{}, vm.ErrInvalid.WithField("body.name", invalidName, req.Name)
	}
	resources, err := s.size(ctx, req)
	if err != nil {
		return store.Record{}, err
	}
	if req.ImageID == uuid.Nil {
		return store.Record{}, vm.ErrInvalid.WithField("body.image_id", "is required where no template gives it", "")
	}
	image, err := s.GetImage(ctx, req.ImageID)
	if err != nil {
		return store.Record{}, named(ctx, err, vm.ErrImageNotFound, "image:read")
	}
	switch {
	case image.Status == vm.ImageFailed:
		return store.Record{}, vm.ErrImageFailed
	case image.Status == vm.ImageUploading:
		return store.Record{}, vm.ErrImageUploading
	case image.Kind == vm.ImageKernel || image.Kind == vm.ImageInitrd:
		return store.Record{}, vm.ErrImageKind.WithField("body.image_id", "must be an image of kind disk or iso", image.ID.String())
	case image.Kind == vm.ImageISO && req.CDROM != nil && *req.CDROM != image.ID:
		return store.Record{}, vm.ErrInvalid.WithField("body.cdrom_image_id", "the drive holds the ISO image of image_id already", req.CDROM.String())
	case image.Kind == vm.ImageDisk && resources.DiskGiB*gib < image.VirtualSizeBytes:
		return store.Record{}, vm.ErrInvalid.WithField("body.resources.disk_gib",
			fmt.Sprintf("must be at least %d: the image's disk has %d bytes", (image.VirtualSizeBytes+gib-1)/gib, image.VirtualSizeBytes), fmt.Sprint(resources.DiskGiB))
	}
	if err := checkUserData(req.UserData, "body.user_data", vm.ErrInvalid); err != nil {
		return store.Record{}, err
	}
	cloudInit, err := checkCloudInit(req.CloudInit, "body.", vm.ErrInvalid)
	if err != nil {
		return store.Record{}, err
	}
	keys, err := s.publicKeys(ctx, req.SSHKeys, "body.ssh_keys", vm.ErrInvalid)
	if err != nil {
		return store.Record{}, err
	}
	networks, err := s.interfaces(ctx, req.Interfaces)
	if err != nil {
		return store.Record{}, err
	}
	if taken, err := s.store.NameTaken(ctx, p.TenantID, req.Name); err != nil || taken {
		return store.Record{}, errors.Join(err, nameTaken(taken, req.Name))
	}
	id, err := uuid.NewV7()
	if err != nil {
		return store.Record{}, fmt.Errorf("make id: %w", err)
	}
	desired := vm.DesiredRunning
	if req.Stopped {
		desired = vm.DesiredStopped
	}
	if req.Tags == nil {
		req.Tags = map[string]string{}
	}
	if req.HypervisorType == "" {
		req.HypervisorType = "kvm"
	}
	settings := vm.DefaultSettings()
	settings.DeleteProtection, settings.DirectBoot = req.DeleteProtection, req.DirectBoot
	if settings.CDROM.ImageID = req.CDROM; image.Kind == vm.ImageISO {
		settings.CDROM.ImageID = &image.ID
	}
	settings.CDROM.Drive = settings.CDROM.ImageID != nil
	req.Hardware.Apply(&settings)
	if err := s.checkMedia(ctx, &vm.Settings{}, &settings, "body.", vm.ErrInvalid); err != nil {
		return store.Record{}, err
	}
	if req.BootOrder != nil {
		settings.BootOrder = req.BootOrder
	}
	r := store.Record{
		VM: vm.VM{ID: id, Name: req.Name, State: vm.StateCreating, DesiredState: desired, HypervisorType: req.HypervisorType,
			OwnerID: p.UserID, TenantID: p.TenantID, ImageID: image.ID, Flavor: req.Flavor, Resources: resources, Networks: networks,
			Disks: []vm.Disk{{Name: rootDisk, SizeBytes: resources.DiskGiB * gib}}, Tags: req.Tags, Generation: 1,
			Description: req.Description, Settings: settings},
		UserData: req.UserData, SSHKeys: keys, CloudInit: cloudInit,
	}
	bare := r
	bare.BootOrder, bare.IOLimits = nil, nil // what it has already may stay; it has nothing yet
	return r, checkEdited(bare, nil, store.EditedOf(r.VM))
}

func nameTaken(taken bool, name string) error {
	if !taken {
		return nil
	}
	return vm.ErrNameTaken.WithMessage("a virtual machine named %q exists in the tenant", name)
}

// size takes the resources from the flavor and lets explicit ones override it.
func (s *Service) size(ctx context.Context, req vm.CreateVMRequest) (vm.Resources, error) {
	r := vm.Resources{}
	if req.Flavor != "" {
		f, err := s.flavorNamed(ctx, req.Flavor, "body.flavor", vm.ErrInvalid)
		if err != nil {
			return r, err
		}
		r = f.Resources
	}
	override(&r, req.Resources)
	e := vm.ErrInvalid
	for _, part := range []struct {
		field string
		value int64
	}{{"vcpus", int64(r.VCPUs)}, {"memory_mib", r.MemoryMiB}, {"disk_gib", r.DiskGiB}} {
		if part.value <= 0 {
			e = e.WithField("body.resources."+part.field, "is required where no flavor gives it", "")
		}
	}
	if len(e.Fields) > 0 {
		return r, e
	}
	return r, nil
}

// named tells a caller who may know nothing of a kind that this is why something was not found, whether or not it is there.
func named(ctx context.Context, err, notFound error, read string) error {
	if errors.Is(err, notFound) && !caller(ctx).AllowsOwn(read) {
		return httpx.Missing(read)
	}
	return err
}
