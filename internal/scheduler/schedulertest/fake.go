// Package schedulertest has a scheduler in memory, for the tests of modules that need one, and the suite that every implementation of the
// contract passes: the fake, the real one, and whatever carries calls between processes. Only tests import it.
package schedulertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
)

// policy is what the fake fills nodes by; the suite expects its figures.
func policy() placement.Policy {
	return placement.Policy{OvercommitVCPU: 16, OvercommitMemory: 1, NodeTimeout: time.Hour}
}

// defaultTTL is how long the fake holds a reservation where the request does not say.
const defaultTTL = 10 * time.Minute

// Fake is a scheduler in memory. It is safe for concurrent use.
type Fake struct {
	mu     sync.Mutex // guards what follows
	now    func() time.Time
	nodes  map[uuid.UUID]scheduler.Node
	places map[uuid.UUID]scheduler.Allocation
	quotas map[uuid.UUID]scheduler.Quota
}

var _ scheduler.Service = (*Fake)(nil)

// NewFake makes a fake without nodes.
func NewFake() *Fake {
	return &Fake{now: time.Now, nodes: map[uuid.UUID]scheduler.Node{}, places: map[uuid.UUID]scheduler.Allocation{}, quotas: map[uuid.UUID]scheduler.Quota{}}
}

// Heartbeat registers a node or brings it up to date.
func (f *Fake) Heartbeat(h event.NodeHeartbeat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, known := f.nodes[h.NodeID]
	if !known {
		n = scheduler.Node{ID: h.NodeID, Labels: map[string]string{}, RegisteredAt: f.now(), Revision: 1}
	}
	n.Name, n.State, n.Epoch, n.LastHeartbeat = h.Name, scheduler.NodeReady, h.Epoch, f.now()
	n.Capacity = scheduler.Resources{VCPUs: h.Capacity.VCPUs, MemoryBytes: h.Capacity.MemoryBytes, StorageBytes: h.Capacity.StorageBytes}
	n.Limits = policy().Limits(n.Capacity)
	n.StorageFreeBytes, n.CPUModel, n.Accelerator, n.Architecture = h.StorageFree, h.CPUModel, h.Accelerator, h.Architecture
	n.Version, n.Hypervisor, n.Hypervisors, n.Health, n.Reason = h.Version, h.Hypervisor, h.Hypervisors, h.Health, h.Reason
	f.nodes[h.NodeID] = n
}

// SetQuota limits a tenant.
func (f *Fake) SetQuota(tenant uuid.UUID, q scheduler.Quota) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.quotas[tenant] = q
}

// Expire makes the time of a reservation be up.
func (f *Fake) Expire(vmID uuid.UUID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.places[vmID]; ok && a.ExpiresAt != nil {
		past := f.now().Add(-time.Second)
		a.ExpiresAt = &past
		f.places[vmID] = a
	}
}

// Sweep gives back what has expired.
func (f *Fake) Sweep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, a := range f.places {
		if f.expired(a) {
			delete(f.places, id)
		}
	}
}

func (f *Fake) expired(a scheduler.Allocation) bool {
	return a.ExpiresAt != nil && !a.ExpiresAt.After(f.now())
}

// node gives a node with its counters, which the fake sums up whenever it is asked.
func (f *Fake) node(n scheduler.Node) scheduler.Node {
	n.Allocated, n.VMs = scheduler.Resources{}, 0
	for _, a := range f.places {
		if a.NodeID == n.ID {
			n.Allocated.VCPUs += a.VCPUs
			n.Allocated.MemoryBytes += a.MemoryBytes
			n.Allocated.StorageBytes += a.StorageBytes
			if a.Kind == scheduler.AllocationVM {
				n.VMs++
			}
		}
	}
	return n
}

// Reserve implements scheduler.Service.
func (f *Fake) Reserve(ctx context.Context, req scheduler.ReserveRequest) (scheduler.ReserveResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Kind == "" {
		req.Kind = scheduler.AllocationVM
	}
	sized := req.VCPUs >= 1 && req.MemoryBytes >= 1 && req.HypervisorType != ""
	if req.Kind != scheduler.AllocationVM {
		sized = req.VCPUs == 0 && req.MemoryBytes == 0 && req.HypervisorType == ""
	}
	if req.VMID == uuid.Nil || req.TenantID == uuid.Nil || !sized || req.StorageBytes < 0 || req.TTL < 0 {
		return scheduler.ReserveResponse{}, scheduler.ErrInvalid
	}
	if req.TTL == 0 {
		req.TTL = defaultTTL
	}
	expiry := f.now().Add(req.TTL)
	if a, ok := f.places[req.VMID]; ok && !f.expired(a) {
		if a.TenantID != req.TenantID || a.VCPUs != req.VCPUs || a.MemoryBytes != req.MemoryBytes || a.StorageBytes != req.StorageBytes ||
			a.HypervisorType != req.HypervisorType || a.Kind != req.Kind || req.NodeID != nil && a.NodeID != *req.NodeID {
			return scheduler.ReserveResponse{}, scheduler.ErrReservationMismatch
		}
		if a.ExpiresAt != nil && expiry.After(*a.ExpiresAt) {
			a.ExpiresAt = &expiry
			f.places[req.VMID] = a
		}
		return scheduler.ReserveResponse{Allocation: a, NodeName: f.nodes[a.NodeID].Name}, nil
	}
	delete(f.places, req.VMID)
	if err := f.checkQuota(req); err != nil {
		return scheduler.ReserveResponse{}, err
	}
	var nodes []scheduler.Node
	for _, n := range f.nodes {
		nodes = append(nodes, f.node(n))
	}
	ranked := policy().Rank(nodes, placement.Request{VCPUs: req.VCPUs, MemoryBytes: req.MemoryBytes, StorageBytes: req.StorageBytes, HypervisorType: req.HypervisorType,
		NodeID: req.NodeID})
	if len(ranked) == 0 || !ranked[0].Fits() {
		p, _ := identity.From(ctx)
		return scheduler.ReserveResponse{}, placement.NoFit(ranked, p.Allows("node:read"))
	}
	a := scheduler.Allocation{Kind: req.Kind, VMID: req.VMID, NodeID: ranked[0].Node.ID, TenantID: req.TenantID, VCPUs: req.VCPUs, MemoryBytes: req.MemoryBytes,
		StorageBytes: req.StorageBytes, HypervisorType: req.HypervisorType, Status: scheduler.AllocationReserved, ExpiresAt: &expiry, AllocatedAt: f.now()}
	f.places[req.VMID] = a
	return scheduler.ReserveResponse{Allocation: a, NodeName: ranked[0].Node.Name}, nil
}

func (f *Fake) checkQuota(req scheduler.ReserveRequest) error {
	used := scheduler.Usage{VCPUs: int64(req.VCPUs), MemoryBytes: req.MemoryBytes, StorageBytes: req.StorageBytes}
	if req.Kind == scheduler.AllocationVM {
		used.VMs = 1
	}
	for _, a := range f.places {
		if a.TenantID == req.TenantID {
			used.VCPUs += int64(a.VCPUs)
			used.MemoryBytes += a.MemoryBytes
			used.StorageBytes += a.StorageBytes
			if a.Kind == scheduler.AllocationVM {
				used.VMs++
			}
		}
	}
	var exceeded *errs.Error
	check := func(name string, limit, used int64) {
		if limit == 0 || used <= limit {
			return
		}
		if exceeded == nil {
			exceeded = scheduler.ErrQuotaExceeded
		}
		exceeded = exceeded.WithField("quota."+name, fmt.Sprintf("allows %d, %d would be in use", limit, used), "")
	}
	limits := f.quotas[req.TenantID]
	check("vcpus", limits.VCPUs, used.VCPUs)
	check("memory_bytes", limits.MemoryBytes, used.MemoryBytes)
	check("storage_bytes", limits.StorageBytes, used.StorageBytes)
	check("vms", limits.VMs, used.VMs)
	if exceeded == nil {
		return nil // not exceeded itself: a nil pointer in an error is not nil
	}
	return exceeded
}

// ResizeStorage implements scheduler.Service.
func (f *Fake) ResizeStorage(ctx context.Context, req scheduler.ResizeStorageRequest) (scheduler.ResizeStorageResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.places[req.VMID]
	more := req.StorageBytes - a.StorageBytes
	switch {
	case !ok:
		return scheduler.ResizeStorageResponse{}, scheduler.ErrAllocationNotFound
	case req.StorageBytes < 0:
		return scheduler.ResizeStorageResponse{}, scheduler.ErrInvalid
	case more > 0:
		if err := f.checkQuota(scheduler.ReserveRequest{Kind: scheduler.AllocationVolume, TenantID: a.TenantID, StorageBytes: more}); err != nil {
			return scheduler.ResizeStorageResponse{}, err
		}
		verdicts := policy().Rank([]scheduler.Node{f.node(f.nodes[a.NodeID])}, placement.Request{StorageBytes: more, NodeID: &a.NodeID})
		if !verdicts[0].Fits() {
			p, _ := identity.From(ctx)
			return scheduler.ResizeStorageResponse{}, placement.NoFit(verdicts, p.Allows("node:read"))
		}
	}
	if req.DryRun {
		return scheduler.ResizeStorageResponse{Allocation: a}, nil
	}
	a.StorageBytes = req.StorageBytes
	f.places[req.VMID] = a
	return scheduler.ResizeStorageResponse{Allocation: a}, nil
}

// Resize implements scheduler.Service.
func (f *Fake) Resize(ctx context.Context, req scheduler.ResizeRequest) (scheduler.ResizeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.places[req.VMID]
	vcpus, memory := max(req.VCPUs-a.VCPUs, 0), max(req.MemoryBytes-a.MemoryBytes, 0)
	switch {
	case req.VCPUs < 1 || req.MemoryBytes < 1:
		return scheduler.ResizeResponse{}, scheduler.ErrInvalid
	case !ok:
		return scheduler.ResizeResponse{}, scheduler.ErrAllocationNotFound
	case vcpus > 0 || memory > 0:
		if err := f.checkQuota(scheduler.ReserveRequest{Kind: scheduler.AllocationVolume, TenantID: a.TenantID, VCPUs: vcpus, MemoryBytes: memory}); err != nil {
			return scheduler.ResizeResponse{}, err
		}
		verdicts := policy().Rank([]scheduler.Node{f.node(f.nodes[a.NodeID])}, placement.Request{VCPUs: vcpus, MemoryBytes: memory, NodeID: &a.NodeID})
		if !verdicts[0].Fits() {
			p, _ := identity.From(ctx)
			return scheduler.ResizeResponse{}, placement.NoFit(verdicts, p.Allows("node:read"))
		}
	}
	if req.DryRun {
		return scheduler.ResizeResponse{Allocation: a}, nil
	}
	a.VCPUs, a.MemoryBytes = req.VCPUs, req.MemoryBytes
	f.places[req.VMID] = a
	return scheduler.ResizeResponse{Allocation: a}, nil
}

// Confirm implements scheduler.Service.
func (f *Fake) Confirm(_ context.Context, req scheduler.ConfirmRequest) (scheduler.ConfirmResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.places[req.VMID]
	if !ok || f.expired(a) {
		return scheduler.ConfirmResponse{}, scheduler.ErrReservationExpired
	}
	a.Status, a.ExpiresAt = scheduler.AllocationConfirmed, nil
	f.places[req.VMID] = a
	return scheduler.ConfirmResponse{Allocation: a}, nil
}

// Release implements scheduler.Service.
func (f *Fake) Release(_ context.Context, req scheduler.ReleaseRequest) (scheduler.ReleaseResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.places, req.VMID)
	return scheduler.ReleaseResponse{}, nil
}

// GetAllocation implements scheduler.Service.
func (f *Fake) GetAllocation(_ context.Context, req scheduler.GetAllocationRequest) (scheduler.GetAllocationResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.places[req.VMID]
	if !ok {
		return scheduler.GetAllocationResponse{}, scheduler.ErrAllocationNotFound
	}
	return scheduler.GetAllocationResponse{Allocation: a}, nil
}

// ListAllocations implements scheduler.Service.
func (f *Fake) ListAllocations(_ context.Context, req scheduler.ListAllocationsRequest) (scheduler.ListAllocationsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []scheduler.Allocation{}
	for _, a := range f.places {
		if (req.NodeID == nil || a.NodeID == *req.NodeID) && (req.TenantID == nil || a.TenantID == *req.TenantID) {
			list = append(list, a)
		}
	}
	list = page(list, req.After, req.Limit, func(a scheduler.Allocation) scheduler.Position {
		return scheduler.Position{Time: a.AllocatedAt, ID: a.VMID}
	})
	return scheduler.ListAllocationsResponse{Allocations: list}, nil
}

// GetNode implements scheduler.Service.
func (f *Fake) GetNode(_ context.Context, req scheduler.GetNodeRequest) (scheduler.GetNodeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.nodes[req.NodeID]
	if !ok {
		return scheduler.GetNodeResponse{}, scheduler.ErrNodeNotFound
	}
	return scheduler.GetNodeResponse{Node: f.node(n)}, nil
}

// ListNodes implements scheduler.Service.
func (f *Fake) ListNodes(_ context.Context, req scheduler.ListNodesRequest) (scheduler.ListNodesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []scheduler.Node{}
	for _, n := range f.nodes {
		list = append(list, f.node(n))
	}
	list = page(list, req.After, req.Limit, func(n scheduler.Node) scheduler.Position {
		return scheduler.Position{Time: n.RegisteredAt, ID: n.ID}
	})
	return scheduler.ListNodesResponse{Nodes: list}, nil
}

// page sorts newest first and cuts.
func page[T any](list []T, after *scheduler.Position, limit int, at func(T) scheduler.Position) []T {
	compare := func(a, b scheduler.Position) int {
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return slices.Compare(b.ID[:], a.ID[:])
	}
	slices.SortFunc(list, func(a, b T) int { return compare(at(a), at(b)) })
	if after != nil {
		list = slices.DeleteFunc(list, func(item T) bool { return compare(at(item), *after) <= 0 })
	}
	if limit <= 0 {
		limit = scheduler.DefaultPage
	}
	return list[:min(len(list), limit, scheduler.MaxPage)]
}
