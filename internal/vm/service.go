package vm

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Service is what other modules may ask of the vm module. Every call acts for the principal in its context, by the permissions of the REST
// routes: nobody is auth.unauthenticated, who lacks the permission gets auth.forbidden, and what is somebody else's is answered like what is
// absent. Changes of machines are answered at once with the operation to follow. All methods may be called concurrently.
type Service interface {
	// CreateVM begins to create a virtual machine.
	CreateVM(ctx context.Context, req CreateVMRequest) (CreateVMResponse, error)
	// GetVMStatus tells how a virtual machine is now.
	GetVMStatus(ctx context.Context, req GetVMStatusRequest) (GetVMStatusResponse, error)
	// ListVMs lists the virtual machines of the caller's tenant, newest first.
	ListVMs(ctx context.Context, req ListVMsRequest) (ListVMsResponse, error)
	// StartVM begins to power a virtual machine on. For one that runs the operation has succeeded already.
	StartVM(ctx context.Context, req StartVMRequest) (StartVMResponse, error)
	// StopVM begins to shut a virtual machine down. For one that is off the operation has succeeded already.
	StopVM(ctx context.Context, req StopVMRequest) (StopVMResponse, error)
	// DeleteVM begins to remove a virtual machine with its disks, in whatever state it is. It fails with ErrProtected where that is not wanted.
	DeleteVM(ctx context.Context, req DeleteVMRequest) (DeleteVMResponse, error)
	// MigrateVM would begin to move a virtual machine to another node. Nodes do not hand machines to each other yet, so it fails: with
	// ErrOnNode for the node that it is on, with scheduler.node_not_found for one that there is not, and with ErrNoOtherNode otherwise.
	MigrateVM(ctx context.Context, req MigrateVMRequest) (MigrateVMResponse, error)
	// GetOperation reads an operation, or waits for its end. It fails with operation.not_found.
	GetOperation(ctx context.Context, req GetOperationRequest) (GetOperationResponse, error)
}

// CreateVMRequest says what to create. Resources that are zero come from the flavor; without a flavor they are refused.
type CreateVMRequest struct {
	Name           string
	HypervisorType string     // "" means kvm
	TemplateID     *uuid.UUID // gives what the request leaves out
	ImageID        uuid.UUID
	Flavor         string
	Resources      Resources
	Interfaces     []InterfaceRequest // none: one on the tenant's default network
	SSHKeys        []string           // public keys, or names and ids of SSH keys of the tenant
	UserData       string
	CloudInit      CloudInit
	Tags           map[string]string
	Description    string
	// DeleteProtection keeps it from being deleted.
	DeleteProtection bool
	CDROM            *uuid.UUID // ISO image that is in the drive
	DirectBoot       DirectBoot
	DiskBoot         bool     // DirectBoot is empty on purpose, whatever the template says
	Hardware         Hardware // beside its size
	BootOrder        []string // "root", "cdrom" and "network"; none: root, then what is in the drive
	Stopped          bool     // leave it powered off
	IdempotencyKey   string   // the same key of the same user gives the same answer for a day; "": none
}

// CreateVMResponse answers CreateVM.
type CreateVMResponse struct {
	VMID        uuid.UUID
	OperationID uuid.UUID
}

// GetVMStatusRequest names a virtual machine.
type GetVMStatusRequest struct {
	VMID uuid.UUID
}

// GetVMStatusResponse answers GetVMStatus.
type GetVMStatusResponse struct {
	VM VM
}

// ListVMsRequest asks for a page of virtual machines.
type ListVMsRequest struct {
	AfterTime  time.Time // creation time and id of the last item of the page before; zero for the first page
	AfterID    uuid.UUID
	Limit      int    // 0 means 50; at most 500
	AllTenants bool   // needs the permission on the platform
	Name       string // exact; empty: any
	State      State  // empty: any
}

// ListVMsResponse answers ListVMs.
type ListVMsResponse struct {
	VMs  []VM
	More bool // there are older ones
}

// StartVMRequest says which virtual machine to power on.
type StartVMRequest struct {
	VMID           uuid.UUID
	IdempotencyKey string
}

// StartVMResponse answers StartVM.
type StartVMResponse struct {
	OperationID uuid.UUID
}

// StopVMRequest says which virtual machine to shut down, and how.
type StopVMRequest struct {
	VMID           uuid.UUID
	Force          bool           // power it off at once
	Grace          *time.Duration // how long the guest may take before it is powered off; nil: the configured time
	IdempotencyKey string
}

// StopVMResponse answers StopVM.
type StopVMResponse struct {
	OperationID uuid.UUID
}

// DeleteVMRequest says which virtual machine to remove.
type DeleteVMRequest struct {
	VMID          uuid.UUID
	DeleteVolumes bool // the attached volumes too, which are only detached otherwise
}

// DeleteVMResponse answers DeleteVM.
type DeleteVMResponse struct {
	OperationID uuid.UUID
}

// MigrateVMRequest says which virtual machine to move, and where to.
type MigrateVMRequest struct {
	VMID   uuid.UUID
	NodeID *uuid.UUID // naming one needs node:read on the platform; nil: whichever fits best
}

// MigrateVMResponse answers MigrateVM.
type MigrateVMResponse struct {
	OperationID uuid.UUID
}

// MaxWait is the longest that one call waits for the end of an operation.
const MaxWait = 5 * time.Minute

// GetOperationRequest names an operation.
type GetOperationRequest struct {
	OperationID uuid.UUID
	Wait        time.Duration // answer when it has ended, or after so long, MaxWait at most; 0: at once
}

// GetOperationResponse answers GetOperation.
type GetOperationResponse struct {
	Operation Operation
}

// OperationStatus tells how far an operation is.
type OperationStatus string

// The statuses of an operation. The last three are ends.
const (
	OperationPending   OperationStatus = "pending"
	OperationRunning   OperationStatus = "running"
	OperationSucceeded OperationStatus = "succeeded"
	OperationFailed    OperationStatus = "failed"
	OperationCanceled  OperationStatus = "canceled"
)

// Operation is a slow change, as other modules see it.
type Operation struct {
	ID          uuid.UUID
	Kind        string // "vm.create"
	TargetID    uuid.UUID
	TenantID    uuid.UUID
	RequestedBy uuid.UUID
	Status      OperationStatus
	Progress    int           // percent
	Error       *errs.Problem // why it failed or was canceled
	CreatedAt   time.Time
	EndedAt     *time.Time // nil while it is at work
}
