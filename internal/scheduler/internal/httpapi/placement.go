package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/service"
)

func (a *API) registerPlacement(kit *httpx.API) {
	type tryInput struct {
		Body struct {
			VCPUs          int    `json:"vcpus" minimum:"1" maximum:"100000" example:"2"`
			MemoryBytes    int64  `json:"memory_bytes" minimum:"1" example:"1073741824"`
			StorageBytes   int64  `json:"storage_bytes,omitempty" minimum:"0" example:"10737418240"`
			HypervisorType string `json:"hypervisor_type,omitempty" enum:"kvm,lxc" default:"kvm"`
		}
	}
	type tryOutput struct{ Body service.Placement }
	httpx.Handle(kit, httpx.Op{ID: "scheduler-placement-try", Method: http.MethodPost, Path: "/api/v1/scheduler/placements",
		Permission: service.PermissionSchedulerRead, Summary: "Try where a machine would be placed", Tag: "scheduler",
		Description: "Tells the reasons against every node, and what would make the machine fit. Takes no place.",
		Errors:      []*errs.Error{scheduler.ErrInvalid}},
		func(ctx context.Context, in *tryInput) (*tryOutput, error) {
			p, err := a.svc.Try(ctx, placement.Request{VCPUs: in.Body.VCPUs, MemoryBytes: in.Body.MemoryBytes,
				StorageBytes: in.Body.StorageBytes, HypervisorType: in.Body.HypervisorType})
			if err != nil {
				return nil, err
			}
			return &tryOutput{Body: p}, nil
		})

	type listInput struct {
		httpx.PageParams
		NodeID   uuid.UUID `query:"node_id" format:"uuid" doc:"Only those on this node."`
		TenantID string    `query:"tenant_id" enum:"all" doc:"'all' lists every tenant's; needs the permission on the platform."`
	}
	type listOutput struct {
		Body httpx.Page[scheduler.Allocation]
	}
	httpx.Handle(kit, httpx.Op{ID: "scheduler-allocation-list", Method: http.MethodGet, Path: "/api/v1/scheduler/allocations",
		Permission: service.PermissionSchedulerRead, Summary: "List what machines hold, newest first", Tag: "scheduler",
		Errors: []*errs.Error{httpx.ErrCursor, scheduler.ErrPlatformOnly}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			after, err := position(in.Cursor)
			if err != nil {
				return nil, err
			}
			req := scheduler.ListAllocationsRequest{After: after, Limit: in.Limit + 1}
			if in.NodeID != uuid.Nil {
				req.NodeID = &in.NodeID
			}
			if in.TenantID != "all" {
				p, _ := identity.From(ctx)
				req.TenantID = &p.TenantID
			}
			list, err := a.svc.Allocations(ctx, req)
			if err != nil {
				return nil, err
			}
			return &listOutput{Body: httpx.PageOf(list, in.Limit, func(a scheduler.Allocation) httpx.Cursor {
				return httpx.Cursor{CreatedAt: a.AllocatedAt, ID: a.VMID}
			})}, nil
		})
}
