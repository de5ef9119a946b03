package service

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// Contract is the service in the form that other modules know. No route stands before it, so each method asks for its permission itself, as the
// route of the same use case does.
type Contract struct{ *Service }

var _ vm.Service = Contract{}

// CreateVM implements vm.Service.
func (c Contract) CreateVM(ctx context.Context, req vm.CreateVMRequest) (vm.CreateVMResponse, error) {
	if err := httpx.AuthorizeCall(ctx, "vm:create", true); err != nil {
		return vm.CreateVMResponse{}, err
	}
	op, err := c.Create(ctx, req)
	return vm.CreateVMResponse{VMID: op.TargetID, OperationID: op.ID}, err
}

// GetVMStatus implements vm.Service.
func (c Contract) GetVMStatus(ctx context.Context, req vm.GetVMStatusRequest) (vm.GetVMStatusResponse, error) {
	if err := httpx.AuthorizeCall(ctx, "vm:read", true); err != nil {
		return vm.GetVMStatusResponse{}, err
	}
	machine, err := c.Get(ctx, req.VMID)
	return vm.GetVMStatusResponse{VM: machine}, err
}

// ListVMs implements vm.Service.
func (c Contract) ListVMs(ctx context.Context, req vm.ListVMsRequest) (vm.ListVMsResponse, error) {
	if err := httpx.AuthorizeCall(ctx, "vm:read", true); err != nil {
		return vm.ListVMsResponse{}, err
	}
	limit := min(req.Limit, httpx.MaxLimit)
	if limit <= 0 {
		limit = httpx.DefaultLimit
	}
	list := ListRequest{AllTenants: req.AllTenants, Filter: store.Filter{Name: req.Name, State: req.State, Limit: limit + 1}}
	if !req.AfterTime.IsZero() {
		list.Filter.After = &store.After{CreatedAt: req.AfterTime, ID: req.AfterID}
	}
	vms, _, err := c.List(ctx, list)
	if err != nil {
		return vm.ListVMsResponse{}, err
	}
	more := len(vms) > limit
	return vm.ListVMsResponse{VMs: vms[:min(limit, len(vms))], More: more}, nil
}

// StartVM implements vm.Service.
func (c Contract) StartVM(ctx context.Context, req vm.StartVMRequest) (vm.StartVMResponse, error) {
	if err := httpx.AuthorizeCall(ctx, "vm:start", true); err != nil {
		return vm.StartVMResponse{}, err
	}
	op, err := c.Start(ctx, Request{VMID: req.VMID, IdempotencyKey: req.IdempotencyKey})
	return vm.StartVMResponse{OperationID: op.ID}, err
}

// StopVM implements vm.Service.
func (c Contract) StopVM(ctx context.Context, req vm.StopVMRequest) (vm.StopVMResponse, error) {
	if err := httpx.AuthorizeCall(ctx, "vm:stop", true); err != nil {
		return vm.StopVMResponse{}, err
	}
	op, err := c.Stop(ctx, Request{VMID: req.VMID, Force: req.Force, Grace: req.Grace, IdempotencyKey: req.IdempotencyKey})
	return vm.StopVMResponse{OperationID: op.ID}, err
}

// DeleteVM implements vm.Service.
func (c Contract) DeleteVM(ctx context.Context, req vm.DeleteVMRequest) (vm.DeleteVMResponse, error) {
	if err := httpx.AuthorizeCall(ctx, "vm:delete", true); err != nil {
		return vm.DeleteVMResponse{}, err
	}
	op, err := c.Delete(ctx, Request{VMID: req.VMID, DeleteVolumes: req.DeleteVolumes})
	return vm.DeleteVMResponse{OperationID: op.ID}, err
}

// MigrateVM implements vm.Service.
func (c Contract) MigrateVM(ctx context.Context, req vm.MigrateVMRequest) (vm.MigrateVMResponse, error) {
	if err := httpx.AuthorizeCall(ctx, "vm:migrate", true); err != nil {
		return vm.MigrateVMResponse{}, err
	}
	return vm.MigrateVMResponse{}, c.Migrate(ctx, req.VMID, req.NodeID)
}

// GetOperation implements vm.Service.
func (c Contract) GetOperation(ctx context.Context, req vm.GetOperationRequest) (vm.GetOperationResponse, error) {
	if err := httpx.AuthorizeCall(ctx, "operation:read", true); err != nil {
		return vm.GetOperationResponse{}, err
	}
	op, err := c.Service.GetOperation(ctx, req.OperationID)
	if err == nil {
		op, err = c.Await(ctx, op, req.Wait)
	}
	if err != nil {
		return vm.GetOperationResponse{}, err
	}
	return vm.GetOperationResponse{Operation: told(op)}, nil
}

// told is an operation as other modules see it.
func told(op operation.Operation) vm.Operation {
	out := vm.Operation{ID: op.ID, Kind: op.Kind, TargetID: op.TargetID, TenantID: op.TenantID, RequestedBy: op.RequestedBy,
		Status: vm.OperationStatus(op.Status), Progress: op.Progress, CreatedAt: op.CreatedAt, EndedAt: op.EndedAt}
	if op.Error != nil {
		out.Error = errs.ProblemOf(op.Error, "", "")
	}
	return out
}

// Migrate refuses to move a virtual machine to the node that is named, or to whichever fits best: nodes do not hand machines to each other yet. It
// says why it cannot be. Who may not read nodes learns of none.
func (s *Service) Migrate(ctx context.Context, id uuid.UUID, to *uuid.UUID) error {
	r, err := s.recordTo(ctx, id, "vm:migrate")
	switch {
	case err != nil:
		return err
	case to == nil:
		return vm.ErrNoOtherNode
	case r.NodeID != nil && *r.NodeID == *to:
		return vm.ErrOnNode
	case !caller(ctx).AllowsPlatform("node:read"):
		return httpx.MissingPlatform("node:read")
	}
	n, err := s.placer.GetNode(ctx, scheduler.GetNodeRequest{NodeID: *to})
	if err != nil {
		return err
	}
	return vm.ErrNoOtherNode.WithMessage("the virtual machine cannot move to node %s", n.Node.Name)
}
