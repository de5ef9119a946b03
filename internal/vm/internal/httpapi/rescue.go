package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
)

type VMRescue struct {
	ImageID      *uuid.UUID `json:"image_id,omitempty" format:"uuid" doc:"Image of kind disk to boot from; none: the one that the machine was made from."`
	Force        bool       `json:"force,omitempty" doc:"Power off at once."`
	GraceSeconds *int       `json:"grace_seconds,omitempty" minimum:"0" maximum:"3600" doc:"How long the guest may take to shut down before it is powered off."`
}

// registerRescue registers what boots a machine from another image, and from its own disk again.
func (a *API) registerRescue(kit *httpx.API) {
	type rescueInput struct {
		VMPath
		WaitParams
		Body *VMRescue `required:"false"`
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-rescue", Method: http.MethodPost, Path: "/api/v1/vms/{id}/rescue", Permission: "vm:delete", Owned: true,
		Summary: "Boot a virtual machine from another image, with its own disks behind it", Tag: "vms", Status: http.StatusAccepted,
		Description: "For a machine whose own system does not boot: it is shut down and powered on from a new disk that is made from the image; its root disk is the second disk, /dev/vdb. " +
			"Networks, keys, user-data and volumes are as before. The new disk takes the image's size and 2 GiB of the quota, and goes when the rescue ends. A failure or a " +
			"cancellation leaves the machine as it was. Restarts stay in the rescue; what would change the machine's disks or size is refused with vm.rescued.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrLocked, vm.ErrWrongState, vm.ErrRescued, vm.ErrRebuildPending, vm.ErrImageNotFound, vm.ErrImageFailed, vm.ErrImageKind,
			vm.ErrImageUploading, scheduler.ErrNoFit, scheduler.ErrQuotaExceeded}},
		func(ctx context.Context, in *rescueInput) (*accepted, error) {
			body := VMRescue{}
			if in.Body != nil {
				body = *in.Body
			}
			how := VMStop{Force: body.Force, GraceSeconds: body.GraceSeconds}
			op, err := a.svc.Rescue(ctx, how.request(ctx, in.ID), body.ImageID)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type unrescueInput struct {
		VMPath
		WaitParams
		Body *VMStop `required:"false"`
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-unrescue", Method: http.MethodPost, Path: "/api/v1/vms/{id}/unrescue", Permission: "vm:delete", Owned: true,
		Summary: "End the rescue of a virtual machine: it boots its own disk again", Tag: "vms", Status: http.StatusAccepted,
		Description: "The guest is shut down, the disk of the rescue is removed with what it holds, and the machine is powered on. One that fails half way is finished by another, " +
			"or by a stop or restart.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrLocked, vm.ErrNotRescued}},
		func(ctx context.Context, in *unrescueInput) (*accepted, error) {
			op, err := a.svc.Unrescue(ctx, in.Body.request(ctx, in.ID))
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}
