package vm

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// State is what a virtual machine shows to the outside: the blueprint's vm_state_enum.
type State string

// The states.
const (
	StateCreating  State = "creating"  // its first operation has not ended
	StateRunning   State = "running"   // the guest runs
	StateStopped   State = "stopped"   // defined, powered off
	StatePaused    State = "paused"    // its virtual CPUs are held
	StateMigrating State = "migrating" // on its way to another node
	StateError     State = "error"     // not what it should be; Error tells why
)

// Desired is the state that the tenant asked for last.
type Desired string

// The desired states.
const (
	DesiredRunning Desired = "running"
	DesiredStopped Desired = "stopped"
	DesiredPaused  Desired = "paused"
	DesiredDeleted Desired = "deleted"
)

// VM is one virtual machine.
type VM struct {
	ID             uuid.UUID         `json:"id" format:"uuid" doc:"UUIDv7." example:"01932c07-209c-7401-95a8-2c6d7e5d6c1a"`
	Name           string            `json:"name" doc:"RFC 1123 label, unique in the tenant." example:"web-1"`
	State          State             `json:"state" enum:"creating,running,stopped,paused,migrating,error" example:"running"`
	DesiredState   Desired           `json:"desired_state" enum:"running,stopped,paused,deleted" doc:"What was asked for last."`
	HypervisorType string            `json:"hypervisor_type" example:"kvm"`
	NodeID         *uuid.UUID        `json:"node_id,omitempty" doc:"The hypervisor node that holds it."`
	OwnerID        uuid.UUID         `json:"owner_id" doc:"The user who created it."`
	TenantID       uuid.UUID         `json:"tenant_id"`
	ImageID        uuid.UUID         `json:"image_id"`
	Flavor         string            `json:"flavor,omitempty" example:"small"`
	Resources      Resources         `json:"resources"`
	Networks       []Interface       `json:"networks" nullable:"false"`
	Disks          []Disk            `json:"disks" nullable:"false"`
	Tags           map[string]string `json:"tags" nullable:"false"`
	Description    string            `json:"description"`
	Suspended      bool              `json:"suspended" doc:"It is stopped with its memory saved to disk; start goes on from there."`
	ReadyAt        *time.Time        `json:"ready_at,omitempty" doc:"When its guest told, since it came on, that it is set up: its agent answers, and cloud-init is done or not there."`
	Pending        []Pending         `json:"pending" nullable:"false" doc:"What the guest takes up only when it is powered on from off."`
	Origin         *Origin           `json:"origin,omitempty" doc:"Of a clone."`
	Rescue         *Rescue           `json:"rescue,omitempty" doc:"While it boots from another image, with its own disks behind it."`
	Observed       Observed          `json:"observed" doc:"What the node saw last."`
	Generation     int64             `json:"generation" doc:"Grows with every request that changes it."`
	OperationID    *uuid.UUID        `json:"operation_id,omitempty" doc:"The operation at work on it, if any."`
	Conditions     []Condition       `json:"conditions" nullable:"false" doc:"What was changed outside of NovaCron, as the last audit of drift found it."`
	Error          *errs.Problem     `json:"error,omitempty" doc:"Why it is in state error, or why the last operation failed."`
	Settings
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Resources is the size of a virtual machine.
type Resources struct {
	VCPUs     int   `json:"vcpus" example:"1"`
	MemoryMiB int64 `json:"memory_mib" example:"512"`
	DiskGiB   int64 `json:"disk_gib" example:"5" doc:"Size of the root disk."`
}

// Disk is one disk of a virtual machine.
type Disk struct {
	Name      string     `json:"name" example:"root" doc:"root, or the name of the volume."`
	VolumeID  *uuid.UUID `json:"volume_id,omitempty" doc:"Of a volume; the root disk has none."`
	SizeBytes int64      `json:"size_bytes"`
}
