package vm

import (
	"time"

	"github.com/google/uuid"
)

// Volume is a disk that lives by itself: it is attached to a virtual machine, detached, and attached to another.
type Volume struct {
	ID             uuid.UUID         `json:"id" format:"uuid" doc:"UUIDv7. The guest finds the disk by it: it is the disk's serial number, of which virtio shows the first 20 characters."`
	Name           string            `json:"name" doc:"RFC 1123 label, unique in the tenant." example:"data-1"`
	Description    string            `json:"description"`
	Tags           map[string]string `json:"tags" nullable:"false"`
	Status         VolumeStatus      `json:"status" enum:"creating,available,in_use,deleting"`
	Format         VolumeFormat      `json:"format" enum:"qcow2,raw" example:"qcow2"`
	SizeBytes      int64             `json:"size_bytes" doc:"What the guest sees." example:"10737418240"`
	AllocatedBytes int64             `json:"allocated_bytes" doc:"What its file takes on the node, as of the last look."`
	NodeID         uuid.UUID         `json:"node_id" doc:"The node that holds it; only virtual machines there can have it."`
	Pool           string            `json:"pool" example:"default" doc:"The storage pool of the node."`
	ImageID        *uuid.UUID        `json:"image_id,omitempty" doc:"The image that it was made from."`
	VMID           *uuid.UUID        `json:"vm_id,omitempty" doc:"The virtual machine that it is attached to."`
	AttachedAt     *time.Time        `json:"attached_at,omitempty"`
	OwnerID        uuid.UUID         `json:"owner_id"`
	TenantID       uuid.UUID         `json:"tenant_id"`
	Generation     int64             `json:"generation" doc:"Grows with every operation on it."`
	OperationID    *uuid.UUID        `json:"operation_id,omitempty" doc:"The operation at work on it, if any."`
	CreatedAt      time.Time         `json:"created_at"`
	UpdatedAt      time.Time         `json:"updated_at"`
}

// VolumeStatus tells what can be done with a volume.
type VolumeStatus string

// The statuses of a volume.
const (
	VolumeCreating  VolumeStatus = "creating"
	VolumeAvailable VolumeStatus = "available" // attached to nothing
	VolumeInUse     VolumeStatus = "in_use"    // attached to a virtual machine, whether that runs or not
	VolumeDeleting  VolumeStatus = "deleting"
)

// VolumeFormat is how a volume lies on the node's disk.
type VolumeFormat string

// The formats. Snapshots need qcow2.
const (
	VolumeQcow2 VolumeFormat = "qcow2"
	VolumeRaw   VolumeFormat = "raw"
)

// DefaultPool is the name of the storage pool that every node has: a folder in its data folder.
const DefaultPool = "default"

// StoragePool is where a node keeps disks.
type StoragePool struct {
	ID             uuid.UUID `json:"id" doc:"The id of the node: each has one pool."`
	Name           string    `json:"name" example:"default"`
	Type           string    `json:"type" enum:"dir" doc:"A folder of the node."`
	NodeID         uuid.UUID `json:"node_id"`
	NodeName       string    `json:"node_name" example:"kvm-01"`
	State          string    `json:"state" enum:"ready,unreachable" doc:"Of the node."`
	CapacityBytes  int64     `json:"capacity_bytes" doc:"Size of the file system."`
	UsedBytes      int64     `json:"used_bytes" doc:"What is taken in the file system, by whatever."`
	FreeBytes      int64     `json:"free_bytes" doc:"What is free in the file system."`
	LimitBytes     int64     `json:"limit_bytes" doc:"How much may be promised to disks."`
	AllocatedBytes int64     `json:"allocated_bytes" doc:"How much is promised to disks, volumes and snapshots."`
	UpdatedAt      time.Time `json:"updated_at" doc:"When the node told this last."`
}

// AttachedDisk is one disk of a virtual machine, as its list of disks shows it.
type AttachedDisk struct {
	Name           string     `json:"name" example:"root" doc:"root, or the name of the volume."`
	VolumeID       *uuid.UUID `json:"volume_id,omitempty" doc:"Of a volume; the root disk has none."`
	Serial         string     `json:"serial,omitempty" doc:"What the guest sees as the disk's serial number; /dev/disk/by-id has it after virtio-." example:"01932c07-209c-7401-9"`
	Format         string     `json:"format" example:"qcow2"`
	SizeBytes      int64      `json:"size_bytes"`
	AllocatedBytes *int64     `json:"allocated_bytes,omitempty" doc:"What its file takes on the node; absent where the node does not answer."`
	OperationID    *uuid.UUID `json:"operation_id,omitempty" doc:"The operation that attaches, detaches or resizes it."`
}

// SerialLength is how much of a serial number a virtio disk shows to its guest (VIRTIO_BLK_ID_BYTES, Virtual I/O Device 1.2, 5.2.6).
const SerialLength = 20

// Snapshot is what the disks of a virtual machine, and its memory where that is wanted, held at one moment.
type Snapshot struct {
	ID              uuid.UUID      `json:"id"`
	VMID            uuid.UUID      `json:"vm_id"`
	Name            string         `json:"name" example:"before-upgrade" doc:"Unique among the snapshots of the virtual machine."`
	Description     string         `json:"description"`
	ParentID        *uuid.UUID     `json:"parent_id,omitempty" doc:"The snapshot that the disks stood on."`
	Current         bool           `json:"current" doc:"The disks stand on this one: it was taken or reverted to last."`
	Status          SnapshotStatus `json:"status" enum:"creating,ready,failed,deleting"`
	Memory          bool           `json:"memory" doc:"It holds the memory too, and going back to it brings the running guest back."`
	Frozen          bool           `json:"frozen" doc:"The guest agent held the guest's file systems while it was taken."`
	VMState         string         `json:"vm_state" enum:"running,paused,stopped" doc:"Of the virtual machine when it was taken."`
	Disks           []SnapshotDisk `json:"disks" nullable:"false"`
	SizeBytes       int64          `json:"size_bytes" doc:"What it is charged to the quota with: what the disks took then, and the memory."`
	MemoryBytes     int64          `json:"memory_bytes" doc:"What the saved memory takes."`
	ExpectedPauseMS int64          `json:"expected_pause_ms" doc:"How long the guest was expected to be held, in milliseconds."`
	PauseMS         *int64         `json:"pause_ms,omitempty" doc:"How long it was held, its writing to the disks included."`
	OwnerID         uuid.UUID      `json:"owner_id"`
	TenantID        uuid.UUID      `json:"tenant_id"`
	OperationID     *uuid.UUID     `json:"operation_id,omitempty" doc:"The operation at work on it, if any."`
	CreatedAt       time.Time      `json:"created_at"`
	UpdatedAt       time.Time      `json:"updated_at"`
}

// SnapshotStatus tells whether a snapshot can be gone back to.
type SnapshotStatus string

// The statuses of a snapshot. One that failed, or whose operation was overtaken, is removed by itself after a while.
const (
	SnapshotCreating SnapshotStatus = "creating"
	SnapshotReady    SnapshotStatus = "ready"
	SnapshotFailed   SnapshotStatus = "failed"
	SnapshotDeleting SnapshotStatus = "deleting"
)

// SnapshotDisk is one disk in a snapshot.
type SnapshotDisk struct {
	Name      string     `json:"name" example:"root"`
	VolumeID  *uuid.UUID `json:"volume_id,omitempty"`
	SizeBytes int64      `json:"size_bytes" doc:"Of the disk when the snapshot was taken."`
}

// SnapshotEstimate is what a snapshot would come to.
type SnapshotEstimate struct {
	ExpectedPauseMS int64          `json:"expected_pause_ms" doc:"How long the guest would be held, in milliseconds."`
	SizeBytes       int64          `json:"size_bytes" doc:"What it would be charged to the quota with."`
	Freezes         bool           `json:"freezes" doc:"A guest agent answers, and would hold the guest's file systems."`
	Disks           []SnapshotDisk `json:"disks" nullable:"false"`
}
