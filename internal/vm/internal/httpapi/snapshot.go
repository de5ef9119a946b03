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

// SnapshotPath names a snapshot of a virtual machine.
type SnapshotPath struct {
	VMPath
	SnapshotID uuid.UUID `path:"sid" format:"uuid" doc:"Id of the snapshot."`
}

// SnapshotCreate is the body of what takes a snapshot, or estimates one.
type SnapshotCreate struct {
	Name        string `json:"name,omitempty" pattern:"^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?$" patternDescription:"1 to 63 letters, digits, '.', '_' and '-'" maxLength:"63" doc:"Unique among the snapshots of the virtual machine. Default: made of the time." example:"before-upgrade"`
	Description string `json:"description,omitempty" maxLength:"1024"`
	Memory      bool   `json:"memory,omitempty" doc:"Keep the memory too. The guest is held while it is written."`
	Quiesce     string `json:"quiesce,omitempty" enum:"auto,required,off" default:"auto" doc:"Have the guest agent hold the guest's file systems meanwhile: where there is one that answers, or else fail, or never. With memory there is no need."`
}

func (b SnapshotCreate) request(ctx context.Context, id uuid.UUID) service.CreateSnapshotRequest {
	return service.CreateSnapshotRequest{VMID: id, Name: b.Name, Description: b.Description, Memory: b.Memory, Quiesce: nodeapi.Quiesce(b.Quiesce),
		IdempotencyKey: idempotent.Key(ctx)}
}

func (a *API) registerSnapshots(kit *httpx.API) {
	type createInput struct {
		VMPath
		WaitParams
		Body *SnapshotCreate `required:"false"`
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-snapshot-create", Method: http.MethodPost, Path: "/api/v1/vms/{id}/snapshots", Permission: "snapshot:create", Owned: true,
		Summary: "Take a snapshot of a virtual machine, while it runs or not", Tag: "snapshots", Status: http.StatusAccepted,
		Description: "Holds all disks at one moment. What it pins is charged to the quota. The operation's target is the snapshot, which tells afterwards how long the guest was held.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrSnapshotTaken, vm.ErrSnapshotTooMany, vm.ErrSnapshotRaw, vm.ErrSnapshotMemory, vm.ErrWrongState, vm.ErrRescued, vm.ErrLocked,
			scheduler.ErrNoFit, scheduler.ErrQuotaExceeded}},
		func(ctx context.Context, in *createInput) (*accepted, error) {
			body := SnapshotCreate{Quiesce: string(nodeapi.QuiesceAuto)}
			if in.Body != nil {
				body = *in.Body
			}
			op, err := a.svc.CreateSnapshot(ctx, body.request(ctx, in.ID))
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type estimateInput struct {
		VMPath
		Body *SnapshotCreate `required:"false"`
	}
	type estimateOutput struct{ Body vm.SnapshotEstimate }
	httpx.Handle(kit, httpx.Op{ID: "vm-snapshot-estimate", Method: http.MethodPost, Path: "/api/v1/vms/{id}/snapshots/estimate", Permission: "snapshot:read", Owned: true,
		Summary: "Tell how long a snapshot would hold the guest and what it would be charged with; take none", Tag: "snapshots",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrSnapshotRaw, vm.ErrSnapshotMemory}},
		func(ctx context.Context, in *estimateInput) (*estimateOutput, error) {
			body := SnapshotCreate{Quiesce: string(nodeapi.QuiesceAuto)}
			if in.Body != nil {
				body = *in.Body
			}
			estimate, err := a.svc.EstimateSnapshot(ctx, body.request(ctx, in.ID))
			return &estimateOutput{Body: estimate}, err
		})

	type listInput struct {
		VMPath
		httpx.PageParams
	}
	type listOutput struct{ Body httpx.Page[vm.Snapshot] }
	httpx.Handle(kit, httpx.Op{ID: "vm-snapshot-list", Method: http.MethodGet, Path: "/api/v1/vms/{id}/snapshots", Permission: "snapshot:read", Owned: true,
		Summary: "List the snapshots of a virtual machine, newest first; parent_id makes a tree of them", Tag: "snapshots",
		Errors: []*errs.Error{vm.ErrNotFound, httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(s vm.Snapshot) httpx.Cursor { return httpx.Cursor{CreatedAt: s.CreatedAt, ID: s.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.Snapshot, error) {
					return a.svc.ListSnapshots(ctx, in.ID, after, limit)
				})
			return &listOutput{Body: page}, err
		})

	type getOutput struct{ Body vm.Snapshot }
	httpx.Handle(kit, httpx.Op{ID: "vm-snapshot-get", Method: http.MethodGet, Path: "/api/v1/vms/{id}/snapshots/{sid}", Permission: "snapshot:read", Owned: true,
		Summary: "Read a snapshot", Tag: "snapshots", Errors: []*errs.Error{vm.ErrNotFound, vm.ErrSnapshotNotFound}},
		func(ctx context.Context, in *SnapshotPath) (*getOutput, error) {
			n, err := a.svc.GetSnapshot(ctx, in.ID, in.SnapshotID)
			return &getOutput{Body: n}, err
		})

	type deleteInput struct {
		SnapshotPath
		WaitParams
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-snapshot-delete", Method: http.MethodDelete, Path: "/api/v1/vms/{id}/snapshots/{sid}", Permission: "snapshot:delete", Owned: true,
		Summary: "Delete a snapshot, while the guest runs or not", Tag: "snapshots", Status: http.StatusAccepted,
		Description: "Gives back what only it held. The disks and the other snapshots stay as they are; those that stood on it stand on its parent then.",
		Errors:      []*errs.Error{vm.ErrNotFound, vm.ErrSnapshotNotFound, vm.ErrLocked}},
		func(ctx context.Context, in *deleteInput) (*accepted, error) {
			op, err := a.svc.DeleteSnapshot(ctx, in.ID, in.SnapshotID)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type SnapshotRevert struct {
		Memory *bool `json:"memory,omitempty" doc:"Bring the memory back too, so that the guest goes on where it was. Default: where the snapshot has it."`
		Start  *bool `json:"start,omitempty" doc:"Without memory: power the guest on afterwards. Default: if it is on now."`
	}
	type revertInput struct {
		SnapshotPath
		WaitParams
		Body *SnapshotRevert `required:"false"`
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-snapshot-revert", Method: http.MethodPost, Path: "/api/v1/vms/{id}/snapshots/{sid}/revert", Permission: "snapshot:revert", Owned: true,
		Summary: "Take a virtual machine back to a snapshot", Tag: "snapshots", Status: http.StatusAccepted,
		Description: "Powers the guest off and takes its disks back. What they hold now is lost unless a snapshot holds it. Disks that have grown since stay as large as they are.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrSnapshotNotFound, vm.ErrSnapshotNotReady, vm.ErrSnapshotConfig, vm.ErrSnapshotMemory, vm.ErrWrongState, vm.ErrRescued,
			vm.ErrLocked}},
		func(ctx context.Context, in *revertInput) (*accepted, error) {
			req := service.RevertRequest{VMID: in.ID, SnapshotID: in.SnapshotID, IdempotencyKey: idempotent.Key(ctx)}
			if in.Body != nil {
				req.Memory, req.Start = in.Body.Memory, in.Body.Start
			}
			op, err := a.svc.RevertSnapshot(ctx, req)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}
