package service

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// Get reads a virtual machine that the caller may know.
func (s *Service) Get(ctx context.Context, id uuid.UUID) (vm.VM, error) {
	r, err := s.record(ctx, id)
	if err != nil {
		return r.VM, err
	}
	one := []vm.VM{r.VM}
	err = s.withVolumes(ctx, one)
	return one[0], err
}

func (s *Service) record(ctx context.Context, id uuid.UUID) (store.Record, error) {
	r, err := s.store.GetVM(ctx, id)
	if err != nil {
		return store.Record{}, err
	}
	if !readable(ctx, r.TenantID, r.OwnerID, "vm:read") {
		return store.Record{}, vm.ErrNotFound
	}
	return r, nil
}

// recordTo reads a virtual machine to which the caller may do what permission names.
func (s *Service) recordTo(ctx context.Context, id uuid.UUID, permission string) (store.Record, error) {
	r, err := s.store.GetVM(ctx, id)
	if err == nil {
		err = permitted(ctx, r.TenantID, r.OwnerID, permission, "vm:read", vm.ErrNotFound)
	}
	if err != nil {
		return store.Record{}, err
	}
	return r, nil
}

// ListRequest narrows a list.
type ListRequest struct {
	AllTenants bool // needs the permission on the platform
	Name       string
	State      vm.State
	After      *httpx.Cursor
	Limit      int
}

// List lists virtual machines, newest first.
func (s *Service) List(ctx context.Context, req ListRequest) ([]vm.VM, error) {
	p := caller(ctx)
	f := store.Filter{TenantID: &p.TenantID, OwnerID: p.OwnerFilter("vm:read"), Name: req.Name, State: req.State, Limit: req.Limit}
	if req.AllTenants {
		if !p.AllowsPlatform("vm:read") {
			return nil, httpx.MissingPlatform("vm:read")
		}
		f.TenantID = nil
	}
	f.Before, f.BeforeID = position(req.After)
	records, err := s.store.ListVMs(ctx, f)
	if err != nil {
		return nil, err
	}
	vms := make([]vm.VM, len(records))
	for i := range records {
		vms[i] = records[i].VM
	}
	return vms, s.withVolumes(ctx, vms)
}

// GetOperation reads an operation of the caller's tenant. It belongs to whoever asked for it.
func (s *Service) GetOperation(ctx context.Context, id uuid.UUID) (operation.Operation, error) {
	op, err := s.ops.Get(ctx, id)
	if err != nil {
		return operation.Operation{}, err
	}
	if !readable(ctx, op.TenantID, op.RequestedBy, "operation:read") {
		return operation.Operation{}, operation.ErrNotFound
	}
	return op, nil
}

// ListOperations lists operations of the caller's tenant, newest first.
func (s *Service) ListOperations(ctx context.Context, f operation.Filter) ([]operation.Operation, error) {
	p := caller(ctx)
	f.TenantID, f.RequestedBy = &p.TenantID, p.OwnerFilter("operation:read")
	return s.ops.List(ctx, f)
}

// CancelOperation asks an operation to stop and to undo what it did.
func (s *Service) CancelOperation(ctx context.Context, id uuid.UUID) (operation.Operation, error) {
	op, err := s.ops.Get(ctx, id)
	if err == nil {
		err = permitted(ctx, op.TenantID, op.RequestedBy, "operation:cancel", "operation:read", operation.ErrNotFound)
	}
	if err != nil {
		return operation.Operation{}, err
	}
	return s.ops.Cancel(ctx, id)
}

// Operations gives the engine, for waiting and watching.
func (s *Service) Operations() *operation.Engine { return s.ops }

// ReadConsole reads a part of what the guest wrote to its serial console.
func (s *Service) ReadConsole(ctx context.Context, id uuid.UUID, offset int64, maxBytes int) (nodeapi.ConsoleChunk, error) {
	r, err := s.recordTo(ctx, id, "vm:console")
	if err != nil {
		return nodeapi.ConsoleChunk{}, err
	}
	return nodeapi.Do[nodeapi.ConsoleChunk](ctx, s.nodes, nodeapi.Target{NodeID: *r.NodeID, VMID: r.ID}, nodeapi.VerbReadConsole,
		nodeapi.ConsoleRead{Offset: offset, MaxBytes: maxBytes})
}
