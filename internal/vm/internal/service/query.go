package service

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	err = s.withParts(ctx, one)
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
	Filter     store.Filter
	Count      bool
}

// List lists virtual machines, and counts them all where that is asked for.
func (s *Service) List(ctx context.Context, req ListRequest) ([]vm.VM, *int64, error) {
	p, f := caller(ctx), req.Filter
	f.TenantID, f.OwnerID = &p.TenantID, p.OwnerFilter("vm:read")
	if req.AllTenants {
		if !p.AllowsPlatform("vm:read") {
			return nil, nil, httpx.MissingPlatform("vm:read")
		}
		f.TenantID, f.OwnerID = nil, nil
	}
	records, err := s.store.ListVMs(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	vms := make([]vm.VM, len(records))
	for i := range records {
		vms[i] = records[i].VM
	}
	var count *int64
	if req.Count {
		n, err := s.store.CountVMs(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		count = &n
	}
	return vms, count, s.withParts(ctx, vms)
}

// History lists what happened to a virtual machine and the operations on it, newest first.
func (s *Service) History(ctx context.Context, id uuid.UUID, after *httpx.Cursor, limit int) ([]vm.HistoryItem, error) {
	if _, err := s.record(ctx, id); err != nil {
		return nil, err
	}
	before, beforeID := position(after)
	return s.store.History(ctx, id, before, beforeID, limit)
}

// ForgetHistory drops what happened long ago.
func (s *Service) ForgetHistory(ctx context.Context) error { return s.store.ForgetHistory(ctx) }

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

// Await waits until an operation has ended or the time is up, and gives it as it is then.
func (s *Service) Await(ctx context.Context, op operation.Operation, d time.Duration) (operation.Operation, error) {
	if d <= 0 || op.EndedAt != nil {
		return op, nil
	}
	waiting, cancel := context.WithTimeout(ctx, min(d, vm.MaxWait))
	defer cancel()
	ended, err := s.ops.Wait(waiting, op.ID)
	switch {
	case err == nil:
		s.RenewStatus(ctx, ended.TargetID)
		return ended, nil
	case errors.Is(err, context.DeadlineExceeded):
		return ended, nil // the time was up first
	default:
		return op, fmt.Errorf("wait for operation %s: %w", op.ID, err)
	}
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
