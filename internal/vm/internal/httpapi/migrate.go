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

type VMMigrate struct {
	NodeID *uuid.UUID `json:"node_id,omitempty" format:"uuid" doc:"Node to move it to, which needs node:read on the platform; none: whichever fits best."`
}

func (a *API) registerMigrations(kit *httpx.API) {
	type migrateInput struct {
		VMPath
		WaitParams
		Body *VMMigrate `required:"false"`
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-migrate", Method: http.MethodPost, Path: "/api/v1/vms/{id}/migrate", Permission: "vm:migrate", Owned: true,
		Summary: "Move a virtual machine to another node", Tag: "vms", Status: http.StatusAccepted,
		Description: "Nodes do not hand machines to each other yet, so every answer is a refusal: vm.already_on_node for the node that the machine is on, " +
			"scheduler.node_not_found for one that there is not, and otherwise vm.no_other_node.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrOnNode, vm.ErrNoOtherNode, scheduler.ErrNodeNotFound}},
		func(ctx context.Context, in *migrateInput) (*accepted, error) {
			var to *uuid.UUID
			if in.Body != nil {
				to = in.Body.NodeID
			}
			return nil, a.svc.Migrate(ctx, in.ID, to)
		})
}
