package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
)

// StatusList is the statuses of several virtual machines.
type StatusList struct {
	Items []vm.Status `json:"items" nullable:"false"`
}

const statusAge = "It is read from a cache that changes renew at once, and the database where that has nothing; `as_of` tells when it was read from there. " +
	"It is never older than 5 seconds. Who begins an operation, or waits for its end, finds what it has done."

func (a *API) registerStatuses(kit *httpx.API) {
	type getInput struct{ VMPath }
	type getOutput struct{ Body vm.Status }
	httpx.Handle(kit, httpx.Op{ID: "vm-status", Method: http.MethodGet, Path: "/api/v1/vms/{id}/status", Permission: "vm:read", Owned: true,
		Summary: "Read the status of a virtual machine, again and again if need be", Tag: "vms", Description: statusAge, Errors: []*errs.Error{vm.ErrNotFound}},
		func(ctx context.Context, in *getInput) (*getOutput, error) {
			status, err := a.svc.Status(ctx, in.ID)
			return &getOutput{Body: status}, err
		})

	type listInput struct {
		IDs []string `query:"ids" required:"true" minItems:"1" maxItems:"200" doc:"Ids of virtual machines, with commas between them." example:"01932c07-209c-7401-95a8-2c6d7e5d6c1a"`
	}
	type listOutput struct{ Body StatusList }
	httpx.Handle(kit, httpx.Op{ID: "vm-statuses", Method: http.MethodGet, Path: "/api/v1/vms/status", Permission: "vm:read", Owned: true,
		Summary: "Read the statuses of several virtual machines", Tag: "vms", Errors: []*errs.Error{httpx.ErrInvalid},
		Description: "In the order of the ids. Those that are not there, or are not the caller's to know, are left out. " + statusAge},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			ids := make([]uuid.UUID, len(in.IDs))
			for i, text := range in.IDs {
				var err error
				if ids[i], err = uuid.Parse(text); err != nil {
					return nil, httpx.ErrInvalid.WithField(fmt.Sprintf("query.ids[%d]", i), "must be a UUID", text)
				}
			}
			statuses, err := a.svc.Statuses(ctx, ids)
			return &listOutput{Body: StatusList{Items: statuses}}, err
		})
}
