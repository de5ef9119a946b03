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
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

type VMClone struct {
	Name             string            `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"Of the clone; RFC 1123 label, unique in the tenant." example:"web-2"`
	Mode             vm.CloneMode      `json:"mode,omitempty" enum:"full,linked" default:"full" doc:"full: all that the disk holds is copied. linked: the clone stands on the same image, and what differs from it is copied."`
	SnapshotID       *uuid.UUID        `json:"snapshot_id,omitempty" format:"uuid" doc:"Clone what this snapshot of the machine holds; none: what the disk holds now, whether the machine runs or not."`
	DiskGiB          int64             `json:"disk_gib,omitempty" minimum:"1" maximum:"65536" doc:"Size of the clone's root disk; at least the source's, which is the default."`
	Networks         []VMNetwork       `json:"networks,omitempty" maxItems:"8" doc:"One interface on each; none: as the source, with addresses of their own."`
	SSHKeys          []string          `json:"ssh_keys,omitempty" maxItems:"64" doc:"For the default user; none: as the source."`
	UserData         *string           `json:"user_data,omitempty" maxLength:"65536" doc:"cloud-init user-data, of a kind that cloud-init knows by its beginning; none: as the source. cloud-init takes the clone for a new instance and runs."`
	Tags             map[string]string `json:"tags,omitempty" maxProperties:"64" doc:"None: as the source."`
	Description      *string           `json:"description,omitempty" maxLength:"1024" doc:"None: as the source."`
	DeleteProtection bool              `json:"delete_protection,omitempty" doc:"Refuse to delete the clone until this is taken back."`
	Start            *bool             `json:"start,omitempty" default:"true" doc:"Power the clone on once it is made."`
}

// request checks what the body shares with that of a creation in the same way.
func (b VMClone) request(id uuid.UUID) (service.CloneRequest, error) {
	shared, err := VMCreate{Networks: b.Networks, Tags: b.Tags, SSHKeys: b.SSHKeys, Start: b.Start}.request()
	return service.CloneRequest{VMID: id, Name: b.Name, Mode: b.Mode, SnapshotID: b.SnapshotID, DiskGiB: b.DiskGiB, Description: b.Description, Tags: b.Tags,
		UserData: b.UserData, SSHKeys: b.SSHKeys, Interfaces: shared.Interfaces, DeleteProtection: b.DeleteProtection, Stopped: shared.Stopped}, err
}

type VMRebuild struct {
	ImageID  *uuid.UUID `json:"image_id,omitempty" format:"uuid" doc:"Image to make the root disk from; none: the one that the machine was made from."`
	SSHKeys  []string   `json:"ssh_keys,omitempty" maxItems:"64" doc:"For the default user; none: as before."`
	UserData *string    `json:"user_data,omitempty" maxLength:"65536" doc:"cloud-init user-data, of a kind that cloud-init knows by its beginning; none: as before."`
	Start    *bool      `json:"start,omitempty" doc:"Power it on afterwards; none: if it was to run."`
}

// registerClones registers what makes a root disk anew: of another machine, or of the same.
func (a *API) registerClones(kit *httpx.API) {
	type cloneInput struct {
		VMPath
		WaitParams
		Body VMClone
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-clone", Method: http.MethodPost, Path: "/api/v1/vms/{id}/clone", Permission: "vm:create", Owned: true,
		Summary: "Make a virtual machine whose root disk is a copy of another's", Tag: "vms", Status: http.StatusAccepted,
		Description: "The source may run meanwhile: a snapshot of its disk is taken for the copy, its file systems held by the guest agent where there is one, and removed " +
			"afterwards. The clone has id, name, addresses and an owner of its own, and the rest from the source where the body says nothing else; volumes and discs " +
			"of the source are not copied. It is made on the source's node. Needs vm:update on the source, because what its disk holds becomes yours. " +
			"The operation's target is the clone.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrInvalid, vm.ErrNameTaken, vm.ErrWrongState, vm.ErrRescued, vm.ErrSnapshotNotFound, vm.ErrSnapshotNotReady, vm.ErrRebuildPending,
			vm.ErrNetworkNotFound, vm.ErrGroupNotFound, vm.ErrInterfaceInvalid, vm.ErrInterfaceMAC, vm.ErrAddressTaken, vm.ErrAddressesAreUsed,
			nodeapi.ErrCloneGone, nodeapi.ErrCloneAlone, scheduler.ErrNoFit, scheduler.ErrQuotaExceeded}},
		func(ctx context.Context, in *cloneInput) (*accepted, error) {
			req, err := in.Body.request(in.ID)
			if err != nil {
				return nil, err
			}
			req.IdempotencyKey = idempotent.Key(ctx)
			op, err := a.svc.Clone(ctx, req)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type rebuildInput struct {
		VMPath
		WaitParams
		Body *VMRebuild `required:"false"`
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-rebuild", Method: http.MethodPost, Path: "/api/v1/vms/{id}/rebuild", Permission: "vm:delete", Owned: true,
		Summary: "Make the root disk of a virtual machine anew from an image; what it holds is lost", Tag: "vms", Status: http.StatusAccepted,
		Description: "Id, name, addresses, settings and attached volumes stay. The machine is powered off at once. Until the old disk goes, a failure or a cancellation leaves " +
			"all as it was; from then on the rebuild only goes forward, and a start finishes it.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrInvalid, vm.ErrLocked, vm.ErrProtected, vm.ErrWrongState, vm.ErrRescued, vm.ErrRebuildSnapshots, vm.ErrImageNotFound, vm.ErrImageFailed,
			vm.ErrImageKind, vm.ErrImageUploading}},
		func(ctx context.Context, in *rebuildInput) (*accepted, error) {
			req := service.RebuildRequest{VMID: in.ID, IdempotencyKey: idempotent.Key(ctx)}
			if b := in.Body; b != nil {
				if _, err := (VMCreate{SSHKeys: b.SSHKeys}).request(); err != nil {
					return nil, err
				}
				req.ImageID, req.SSHKeys, req.UserData, req.Start = b.ImageID, b.SSHKeys, b.UserData, b.Start
			}
			op, err := a.svc.Rebuild(ctx, req)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}
