package vmtest

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
)

// The size of a page where the request does not say, and the largest.
const (
	defaultLimit = 50
	maxLimit     = 500
)

// GetVMStatus implements vm.Service.
func (f *Fake) GetVMStatus(ctx context.Context, req vm.GetVMStatusRequest) (vm.GetVMStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := allowed(ctx, "vm:read")
	if err != nil {
		return vm.GetVMStatusResponse{}, err
	}
	m, exists := f.vms[req.VMID]
	if !exists || !mayRead(p, m.TenantID, m.OwnerID, "vm:read") {
		return vm.GetVMStatusResponse{}, vm.ErrNotFound
	}
	return vm.GetVMStatusResponse{VM: m}, nil
}

// ListVMs implements vm.Service.
func (f *Fake) ListVMs(ctx context.Context, req vm.ListVMsRequest) (vm.ListVMsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := allowed(ctx, "vm:read")
	switch {
	case err != nil:
		return vm.ListVMsResponse{}, err
	case req.AllTenants && !p.AllowsPlatform("vm:read"):
		return vm.ListVMsResponse{}, forbidden("vm:read")
	}
	limit := min(req.Limit, maxLimit)
	if limit <= 0 {
		limit = defaultLimit
	}
	list := []vm.VM{}
	for _, m := range f.vms {
		if (req.AllTenants || m.TenantID == p.TenantID && mayRead(p, m.TenantID, m.OwnerID, "vm:read")) && matches(m, req) {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b vm.VM) int { return newestFirst(a, b) })
	return vm.ListVMsResponse{VMs: list[:min(limit, len(list))], More: len(list) > limit}, nil
}

func newestFirst(a, b vm.VM) int {
	if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
		return c
	}
	return bytes.Compare(b.ID[:], a.ID[:])
}

func matches(m vm.VM, req vm.ListVMsRequest) bool {
	after := req.AfterTime.IsZero() || newestFirst(vm.VM{CreatedAt: req.AfterTime, ID: req.AfterID}, m) < 0
	return after && (req.Name == "" || m.Name == req.Name) && (req.State == "" || m.State == req.State)
}

// StartVM implements vm.Service.
func (f *Fake) StartVM(ctx context.Context, req vm.StartVMRequest) (vm.StartVMResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, m, err := f.vmTo(ctx, req.VMID, "vm:start")
	if err != nil {
		return vm.StartVMResponse{}, err
	}
	if m.State == vm.StatePaused {
		return vm.StartVMResponse{}, vm.ErrWrongState
	}
	id := f.become(p, m, "vm.start", req.IdempotencyKey, vm.StateRunning, vm.DesiredRunning, f.broken)
	return vm.StartVMResponse{OperationID: id}, nil
}

// StopVM implements vm.Service.
func (f *Fake) StopVM(ctx context.Context, req vm.StopVMRequest) (vm.StopVMResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, m, err := f.vmTo(ctx, req.VMID, "vm:stop")
	if err != nil {
		return vm.StopVMResponse{}, err
	}
	id := f.become(p, m, "vm.stop", req.IdempotencyKey, vm.StateStopped, vm.DesiredStopped, nil)
	return vm.StopVMResponse{OperationID: id}, nil
}

// become puts a machine into a state, unless it is in it or that fails, and gives the operation. The caller holds mu.
func (f *Fake) become(p identity.Principal, m vm.VM, kind, key string, state vm.State, desired vm.Desired, broken *errs.Error) uuid.UUID {
	if op, known := f.again(p, kind, key); known {
		return op.ID
	}
	if m.State == state {
		return f.end(p, kind, m, key, nil).ID
	}
	m.Generation, m.UpdatedAt, m.DesiredState = m.Generation+1, f.now(), desired
	op := f.end(p, kind, m, key, broken)
	if m.Error = op.Error; broken == nil {
		m.State = state
		m.Observed.State = string(state)
	}
	f.vms[m.ID] = m
	return op.ID
}

// DeleteVM implements vm.Service.
func (f *Fake) DeleteVM(ctx context.Context, req vm.DeleteVMRequest) (vm.DeleteVMResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, m, err := f.vmTo(ctx, req.VMID, "vm:delete")
	switch {
	case err != nil:
		return vm.DeleteVMResponse{}, err
	case m.DeleteProtection:
		return vm.DeleteVMResponse{}, vm.ErrProtected
	}
	delete(f.vms, m.ID)
	return vm.DeleteVMResponse{OperationID: f.end(p, "vm.delete", m, "", nil).ID}, nil
}

// GetOperation implements vm.Service. It never waits: all that it knows have ended.
func (f *Fake) GetOperation(ctx context.Context, req vm.GetOperationRequest) (vm.GetOperationResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := allowed(ctx, "operation:read")
	if err != nil {
		return vm.GetOperationResponse{}, err
	}
	op, exists := f.ops[req.OperationID]
	if !exists || !mayRead(p, op.TenantID, op.RequestedBy, "operation:read") {
		return vm.GetOperationResponse{}, operation.ErrNotFound
	}
	return vm.GetOperationResponse{Operation: op}, nil
}

// MigrateVM implements vm.Service.
func (f *Fake) MigrateVM(ctx context.Context, req vm.MigrateVMRequest) (vm.MigrateVMResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, m, err := f.vmTo(ctx, req.VMID, "vm:migrate")
	switch {
	case err != nil:
		return vm.MigrateVMResponse{}, err
	case req.NodeID == nil:
		return vm.MigrateVMResponse{}, vm.ErrNoOtherNode
	case *req.NodeID == *m.NodeID:
		return vm.MigrateVMResponse{}, vm.ErrOnNode
	case !p.AllowsPlatform("node:read"):
		return vm.MigrateVMResponse{}, forbidden("node:read")
	}
	return vm.MigrateVMResponse{}, scheduler.ErrNodeNotFound
}
