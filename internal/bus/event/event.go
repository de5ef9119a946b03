// Package event holds the payloads of the bus subjects that cross modules. They stand here, beside the bus and outside every
// module, because a subscriber may not import the contract of the publisher where the module graph has no such arrow.
// Every payload is JSON; names are the blueprint's.
package event

import (
	"time"

	"github.com/google/uuid"
)

// VM is what vm.events carries: one change of one virtual machine. Delivery is at least once; ID is for deduplication.
type VM struct {
	ID        uuid.UUID      `json:"id"`
	Type      string         `json:"type"` // created, started, stopped, paused, resumed, ready, updated, failed, deleted
	VMID      uuid.UUID      `json:"vm_id"`
	TenantID  uuid.UUID      `json:"tenant_id"`
	Timestamp time.Time      `json:"timestamp"`
	Metadata  map[string]any `json:"metadata"`
}

// Object is what vm.objects carries: one change of one thing that the vm module keeps and that is no machine. It has the fields of VM, and what it is
// about beside them. Delivery is at least once; ID is for deduplication.
type Object struct {
	ID        uuid.UUID      `json:"id"`
	Type      string         `json:"type"` // the kind and what happened: volume.created, snapshot.reverted
	Object    Ref            `json:"object"`
	VMID      uuid.UUID      `json:"vm_id"` // that the change has to do with; nil where there is none
	TenantID  uuid.UUID      `json:"tenant_id"`
	Timestamp time.Time      `json:"timestamp"`
	Metadata  map[string]any `json:"metadata"`
}

// Ref names an object.
type Ref struct {
	Kind string    `json:"kind"` // volume, snapshot, image, network, security-group, port-forward
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name"`
}

// Migration is what migration.events carries.
type Migration struct {
	ID          uuid.UUID `json:"id"`
	Type        string    `json:"type"` // started, progress, completed, failed
	MigrationID uuid.UUID `json:"migration_id"`
	VMID        uuid.UUID `json:"vm_id"`
	Progress    int       `json:"progress"` // percent
	Timestamp   time.Time `json:"timestamp"`
	Error       string    `json:"error,omitempty"`
}

// Capacity is what a node has, before any over-commitment.
type Capacity struct {
	VCPUs        int   `json:"vcpus"` // hardware threads
	MemoryBytes  int64 `json:"memory_bytes"`
	StorageBytes int64 `json:"storage_bytes"` // size of the file system that holds the disks
}

// NodeHeartbeat is what node.heartbeat carries, every few seconds, from each hypervisor node.
type NodeHeartbeat struct {
	NodeID       uuid.UUID `json:"node_id"`
	Name         string    `json:"name"`  // host name
	Epoch        int64     `json:"epoch"` // grows with every start of the node role
	Timestamp    time.Time `json:"timestamp"`
	Version      string    `json:"version"` // of novacron
	Capacity     Capacity  `json:"capacity"`
	StorageFree  int64     `json:"storage_free_bytes"`
	Architecture string    `json:"architecture"`
	CPUModel     string    `json:"cpu_model"`
	Accelerator  string    `json:"accelerator"` // kvm or tcg
	Hypervisors  []string  `json:"hypervisors"` // hypervisor types the node can run: kvm, lxc
	Hypervisor   string    `json:"hypervisor_version"`
	// Health is "healthy" or "degraded"; Reason tells why, for people, when it is degraded.
	Health  string `json:"health"`
	Reason  string `json:"reason,omitempty"`
	Running int    `json:"running"` // managed domains that run
}

// SystemHealth is what system.health carries, from the monitoring module.
type SystemHealth struct {
	Timestamp time.Time         `json:"timestamp"`
	Status    string            `json:"status"` // healthy, degraded
	Nodes     map[string]string `json:"nodes"`  // node id -> health
}
