package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
)

func (a *API) registerDisks(kit *httpx.API) {
	type listInput struct {
		VMPath
		httpx.WholeParams
	}
	type listOutput struct{ Body httpx.Page[vm.AttachedDisk] }
	httpx.Handle(kit, httpx.Op{ID: "vm-disk-list", Method: http.MethodGet, Path: "/api/v1/vms/{id}/disks", Permission: "vm:read", Owned: true,
		Summary: "List the disks of a virtual machine, the root disk first", Tag: "disks", Errors: []*errs.Error{vm.ErrNotFound, httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			disks, err := a.svc.Disks(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			page, err := httpx.Whole(in.WholeParams, disks)
			return &listOutput{Body: page}, err
		})

	type DiskAttach struct {
		VolumeID uuid.UUID `json:"volume_id" format:"uuid" doc:"A volume on the virtual machine's node that is attached to nothing."`
	}
	type attachInput struct {
		VMPath
		WaitParams
		Body DiskAttach
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-disk-attach", Method: http.MethodPost, Path: "/api/v1/vms/{id}/disks", Permission: "vm:update", Owned: true,
		Summary: "Attach a volume, while the guest runs or not", Tag: "disks", Status: http.StatusAccepted,
		Description: "The guest finds the disk by its serial number, which is the first 20 characters of the volume's id.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrVolumeNotFound, vm.ErrVolumeInUse, vm.ErrVolumeElsewhere, vm.ErrVolumeNotReady, vm.ErrVolumeBusy,
			vm.ErrTooManyDisks, vm.ErrWrongState, vm.ErrLocked}},
		func(ctx context.Context, in *attachInput) (*accepted, error) {
			op, err := a.svc.AttachDisk(ctx, in.ID, in.Body.VolumeID, idempotent.Key(ctx))
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type detachInput struct {
		VMPath
		WaitParams
		VolumeID uuid.UUID `path:"disk" format:"uuid" doc:"Id of the volume."`
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-disk-detach", Method: http.MethodDelete, Path: "/api/v1/vms/{id}/disks/{disk}", Permission: "vm:update", Owned: true,
		Summary: "Detach a volume, while the guest runs or not", Tag: "disks", Status: http.StatusAccepted,
		Description: "A guest that runs must let go of the disk. Where it does not in time, the operation fails with volume.held_by_guest and the volume stays attached.",
		Errors:      []*errs.Error{vm.ErrNotFound, vm.ErrDiskNotFound, vm.ErrVolumeSnapshots, vm.ErrVolumeBusy, vm.ErrWrongState, vm.ErrLocked}},
		func(ctx context.Context, in *detachInput) (*accepted, error) {
			op, err := a.svc.DetachDisk(ctx, in.ID, in.VolumeID)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type DiskResize struct{ DiskSize }
	type resizeInput struct {
		VMPath
		WaitParams
		Disk string `path:"disk" maxLength:"63" doc:"root, or the id or the name of an attached volume." example:"root"`
		Body DiskResize
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-disk-resize", Method: http.MethodPost, Path: "/api/v1/vms/{id}/disks/{disk}/resize", Permission: "vm:update", Owned: true,
		Summary: "Make a disk larger, while the guest runs or not", Tag: "disks", Status: http.StatusAccepted,
		Description: "The partitions and file systems in it are the guest's own to enlarge. A disk never shrinks.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrDiskNotFound, vm.ErrVolumeInvalid, vm.ErrVolumeShrink, vm.ErrVolumeBusy, vm.ErrWrongState, vm.ErrRescued, vm.ErrLocked,
			scheduler.ErrNoFit, scheduler.ErrQuotaExceeded}},
		func(ctx context.Context, in *resizeInput) (*accepted, error) {
			size, err := in.Body.bytes(true)
			if err != nil {
				return nil, err
			}
			op, err := a.svc.ResizeDisk(ctx, in.ID, in.Disk, size, idempotent.Key(ctx))
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}
