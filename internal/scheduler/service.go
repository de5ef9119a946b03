package scheduler

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// MaxPage is the most items that one list call answers; a Limit of 0 means DefaultPage.
const (
	DefaultPage = 50
	MaxPage     = 501 // one more than a page of the REST API, which looks ahead by one
)

// Service is the scheduler as other modules see it. All methods may be called concurrently.
type Service interface {
	// Reserve picks a node and takes a place on it and of the tenant's quota, until it is confirmed or expires. For a machine that
	// holds a place already it answers that place, with a fresh expiry while it is not confirmed. It fails with ErrNoFit,
	// ErrQuotaExceeded, ErrReservationMismatch or ErrInvalid. Reasons name nodes only if the principal in ctx may node:read.
	Reserve(ctx context.Context, req ReserveRequest) (ReserveResponse, error)
	// ResizeStorage changes how much storage a place has, on its node and in its tenant's quota. More than fits fails with ErrNoFit or
	// ErrQuotaExceeded, a place that is not there with ErrAllocationNotFound. The size that is held already is no change.
	ResizeStorage(ctx context.Context, req ResizeStorageRequest) (ResizeStorageResponse, error)
	// Resize changes how many vCPUs and how much memory the place of a machine has. It fails as ResizeStorage does.
	Resize(ctx context.Context, req ResizeRequest) (ResizeResponse, error)
	// Confirm makes a reservation permanent. It fails with ErrReservationExpired where there is none.
	Confirm(ctx context.Context, req ConfirmRequest) (ConfirmResponse, error)
	// Release gives back whatever the machine holds. A machine that holds nothing is no error.
	Release(ctx context.Context, req ReleaseRequest) (ReleaseResponse, error)
	// GetAllocation fails with ErrAllocationNotFound.
	GetAllocation(ctx context.Context, req GetAllocationRequest) (GetAllocationResponse, error)
	// ListAllocations lists the allocations of all tenants, newest first.
	ListAllocations(ctx context.Context, req ListAllocationsRequest) (ListAllocationsResponse, error)
	// GetNode fails with ErrNodeNotFound.
	GetNode(ctx context.Context, req GetNodeRequest) (GetNodeResponse, error)
	// ListNodes lists nodes, the latest registered first.
	ListNodes(ctx context.Context, req ListNodesRequest) (ListNodesResponse, error)
}

// ReserveRequest asks for a place. Volumes and snapshots ask for storage alone, and under their own id.
type ReserveRequest struct {
	Kind           AllocationKind `json:"kind,omitempty"`    // empty: AllocationVM
	NodeID         *uuid.UUID     `json:"node_id,omitempty"` // the only node that will do, cordoned or not; nil: the best one
	VMID           uuid.UUID      `json:"vm_id"`
	TenantID       uuid.UUID      `json:"tenant_id"`
	VCPUs          int            `json:"vcpus"`
	MemoryBytes    int64          `json:"memory_bytes"`
	StorageBytes   int64          `json:"storage_bytes"`
	HypervisorType string         `json:"hypervisor_type"` // "kvm"
	TTL            time.Duration  `json:"ttl"`             // until the reservation expires; 0 means the module's default
}

// ReserveResponse tells what was taken, and where.
type ReserveResponse struct {
	Allocation Allocation `json:"allocation"`
	NodeName   string     `json:"node_name"`
}

// ResizeStorageRequest says how much storage a place is to have.
type ResizeStorageRequest struct {
	VMID         uuid.UUID `json:"vm_id"` // of what holds the place, whichever kind it is
	StorageBytes int64     `json:"storage_bytes"`
	DryRun       bool      `json:"dry_run,omitempty"` // find out whether it would fit, and change nothing
}

// ResizeStorageResponse holds the allocation as it is now.
type ResizeStorageResponse struct {
	Allocation Allocation `json:"allocation"`
}

// ResizeRequest says how large the place of a machine is to be.
type ResizeRequest struct {
	VMID        uuid.UUID `json:"vm_id"`
	VCPUs       int       `json:"vcpus"`
	MemoryBytes int64     `json:"memory_bytes"`
	DryRun      bool      `json:"dry_run,omitempty"` // find out whether it would fit, and change nothing
}

// ResizeResponse holds the allocation as it is now.
type ResizeResponse struct {
	Allocation Allocation `json:"allocation"`
}

// ConfirmRequest names the machine whose reservation becomes permanent.
type ConfirmRequest struct {
	VMID uuid.UUID `json:"vm_id"`
}

// ConfirmResponse holds the confirmed allocation.
type ConfirmResponse struct {
	Allocation Allocation `json:"allocation"`
}

// ReleaseRequest names the machine that gives back what it holds.
type ReleaseRequest struct {
	VMID uuid.UUID `json:"vm_id"`
}

// ReleaseResponse is empty.
type ReleaseResponse struct{}

// GetAllocationRequest names the machine.
type GetAllocationRequest struct {
	VMID uuid.UUID `json:"vm_id"`
}

// GetAllocationResponse holds what the machine holds.
type GetAllocationResponse struct {
	Allocation Allocation `json:"allocation"`
}

// Position is a place in a list that is ordered by time and id, newest first. The list goes on after it.
type Position struct {
	Time time.Time `json:"time"` // AllocatedAt or RegisteredAt
	ID   uuid.UUID `json:"id"`   // VMID or node ID
}

// ListAllocationsRequest says which allocations to list.
type ListAllocationsRequest struct {
	NodeID   *uuid.UUID `json:"node_id,omitempty"`   // nil: of every node
	TenantID *uuid.UUID `json:"tenant_id,omitempty"` // nil: of every tenant
	After    *Position  `json:"after,omitempty"`     // nil: from the start
	Limit    int        `json:"limit"`               // 0 means DefaultPage; at most MaxPage
}

// ListAllocationsResponse is one page; a page shorter than the limit is the last one.
type ListAllocationsResponse struct {
	Allocations []Allocation `json:"allocations"`
}

// GetNodeRequest names a node.
type GetNodeRequest struct {
	NodeID uuid.UUID `json:"node_id"`
}

// GetNodeResponse holds the node.
type GetNodeResponse struct {
	Node Node `json:"node"`
}

// ListNodesRequest says which nodes to list.
type ListNodesRequest struct {
	After *Position `json:"after,omitempty"` // nil: from the start
	Limit int       `json:"limit"`           // 0 means DefaultPage; at most MaxPage
}

// ListNodesResponse is one page; a page shorter than the limit is the last one.
type ListNodesResponse struct {
	Nodes []Node `json:"nodes"`
}
