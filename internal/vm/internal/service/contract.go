package service

import (
	"context"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// Contract is the service in the form that other modules know.
type Contract struct{ *Service }

var _ vm.Service = Contract{}

// CreateVM implements vm.Service.
func (c Contract) CreateVM(ctx context.Context, req vm.CreateVMRequest) (vm.CreateVMResponse, error) {
	op, err := c.Create(ctx, req)
	return vm.CreateVMResponse{VMID: op.TargetID, OperationID: op.ID}, err
}

// GetVMStatus implements vm.Service.
func (c Contract) GetVMStatus(ctx context.Context, req vm.GetVMStatusRequest) (vm.GetVMStatusResponse, error) {
	machine, err := c.Get(ctx, req.VMID)
	return vm.GetVMStatusResponse{VM: machine}, err
}

// ListVMs implements vm.Service.
func (c Contract) ListVMs(ctx context.Context, req vm.ListVMsRequest) (vm.ListVMsResponse, error) {
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
