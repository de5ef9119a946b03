package scheduler

import (
	"time"

	"github.com/google/uuid"
)

// AllocationStatus says how firm an allocation is.
type AllocationStatus string

// The statuses of an allocation.
const (
	AllocationReserved  AllocationStatus = "reserved"  // given back by itself at ExpiresAt
	AllocationConfirmed AllocationStatus = "confirmed" // stays until it is released
)

// AllocationKind says what holds a place.
type AllocationKind string

// The kinds of allocations. Volumes and snapshots take storage and nothing else.
const (
	AllocationVM       AllocationKind = "vm"
	AllocationVolume   AllocationKind = "volume"
	AllocationSnapshot AllocationKind = "snapshot"
)

// Allocation is what one virtual machine, volume or snapshot holds of one node, and of its tenant's quota.
type Allocation struct {
	Kind           AllocationKind   `json:"kind" enum:"vm,volume,snapshot"`
	VMID           uuid.UUID        `json:"vm_id" doc:"Id of what holds it, whichever kind it is."`
	NodeID         uuid.UUID        `json:"node_id"`
	TenantID       uuid.UUID        `json:"tenant_id"`
	VCPUs          int              `json:"vcpus"`
	MemoryBytes    int64            `json:"memory_bytes"`
	StorageBytes   int64            `json:"storage_bytes"`
	HypervisorType string           `json:"hypervisor_type" example:"kvm" doc:"Empty for what is no machine."`
	Status         AllocationStatus `json:"status" enum:"reserved,confirmed"`
	ExpiresAt      *time.Time       `json:"expires_at,omitempty" doc:"When a reservation that nobody confirms is given back; absent once confirmed."`
	AllocatedAt    time.Time        `json:"allocated_at"`
}

// NodeState says whether a node can be given work.
type NodeState string

// The states of a node.
const (
	NodeReady       NodeState = "ready"       // its heartbeat is fresh
	NodeUnreachable NodeState = "unreachable" // no heartbeat for longer than the node timeout; its machines may well run
)

// The values of Node.Health.
const (
	HealthHealthy  = "healthy"
	HealthDegraded = "degraded"
)

// Resources is an amount of what nodes have and machines take.
type Resources struct {
	VCPUs        int   `json:"vcpus"`
	MemoryBytes  int64 `json:"memory_bytes"`
	StorageBytes int64 `json:"storage_bytes"`
}

// Node is one hypervisor host, as its last heartbeat told.
type Node struct {
	ID               uuid.UUID         `json:"id"`
	Name             string            `json:"name" doc:"Host name." example:"kvm-01"`
	State            NodeState         `json:"state" enum:"ready,unreachable"`
	Cordoned         bool              `json:"cordoned" doc:"No new machines are placed on it."`
	Labels           map[string]string `json:"labels" nullable:"false"`
	Capacity         Resources         `json:"capacity" doc:"What the host has: vcpus are hardware threads."`
	Limits           Resources         `json:"limits" doc:"How much may be allocated, after over-commitment and what is kept for the host."`
	Allocated        Resources         `json:"allocated" doc:"What machines hold, reservations included."`
	VMs              int               `json:"vms" doc:"How many machines hold a place."`
	StorageFreeBytes int64             `json:"storage_free_bytes" doc:"Free space in the file system of the disks, as the host says."`
	CPUModel         string            `json:"cpu_model"`
	Accelerator      string            `json:"accelerator" doc:"kvm, or tcg where the host cannot virtualise in hardware."`
	Architecture     string            `json:"architecture" example:"x86_64"`
	Version          string            `json:"version" doc:"Of novacron on the node."`
	Hypervisor       string            `json:"hypervisor_version" doc:"Of the hypervisor on the node."`
	Hypervisors      []string          `json:"hypervisors" nullable:"false" doc:"The hypervisor types it can run."`
	Health           string            `json:"health" doc:"healthy or degraded. Degraded nodes are used last."`
	Reason           string            `json:"reason,omitempty" doc:"Why the node is degraded or unreachable."`
	LastHeartbeat    time.Time         `json:"last_heartbeat" doc:"When the last heartbeat arrived, by the scheduler's clock."`
	RegisteredAt     time.Time         `json:"registered_at"`
	Epoch            int64             `json:"epoch" doc:"Grows with every start of the node."`
	Revision         int64             `json:"revision" doc:"Grows with every change by an administrator; the ETag."`
}

// Quota is how much a tenant may hold. 0 means unlimited.
type Quota struct {
	VCPUs        int64 `json:"vcpus" minimum:"0" doc:"0 means unlimited."`
	MemoryBytes  int64 `json:"memory_bytes" minimum:"0" doc:"0 means unlimited."`
	StorageBytes int64 `json:"storage_bytes" minimum:"0" doc:"0 means unlimited."`
	VMs          int64 `json:"vms" minimum:"0" doc:"0 means unlimited."`
}

// Usage is how much of its quota a tenant holds, reservations included.
type Usage struct {
	VCPUs        int64 `json:"vcpus"`
	MemoryBytes  int64 `json:"memory_bytes"`
	StorageBytes int64 `json:"storage_bytes"`
	VMs          int64 `json:"vms"`
}
