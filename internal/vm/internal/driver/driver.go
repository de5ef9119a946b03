package driver

import (
	"context"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// NamePrefix begins the name of every domain and network that NovaCron makes; their id follows.
const NamePrefix = "nova-"

// Driver drives one hypervisor of one host. All methods may be called from many goroutines at once.
//
// Calls that change something run to their end even when ctx ends first: an abandoned start that comes into effect after a newer
// stop would undo it. Calls that only ask return when ctx ends.
type Driver interface {
	// Open starts to connect and keeps the connection up until Close. It answers before the hypervisor does: the event
	// Connected tells when it is there. Events go to on, one at a time; on must not block for long and may call the driver.
	Open(ctx context.Context, on func(Event)) error
	// Close ends the connection and returns when no event will come any more. It is idempotent.
	Close() error

	// Info tells what the host and its hypervisor are.
	Info(ctx context.Context) (Info, error)

	// Define makes or replaces the persistent definition. A running domain takes it up at its next start.
	Define(ctx context.Context, def DomainDef) error
	// Start boots the domain.
	Start(ctx context.Context, vm uuid.UUID) error
	// Shutdown presses the power button once and does not wait. What is off already is left so.
	Shutdown(ctx context.Context, vm uuid.UUID) error
	// Destroy powers the domain off at once.
	Destroy(ctx context.Context, vm uuid.UUID) error
	// Reset presses the reset button of a running domain.
	Reset(ctx context.Context, vm uuid.UUID) error
	// Suspend stops the virtual CPUs of a running domain.
	Suspend(ctx context.Context, vm uuid.UUID) error
	// Resume lets the virtual CPUs run again.
	Resume(ctx context.Context, vm uuid.UUID) error
	// Undefine forgets a domain that is off, with its NVRAM and saved memory. Its disks stay.
	Undefine(ctx context.Context, vm uuid.UUID) error

	// List lists the managed domains of every installation.
	List(ctx context.Context) ([]DomainState, error)
	// Definition tells the persistent definition as the hypervisor has it, headed by a line that changes with the hypervisor: texts under
	// different heads cannot be compared. It holds no secrets.
	Definition(ctx context.Context, vm uuid.UUID) (string, error)
	// Status asks for one managed domain.
	Status(ctx context.Context, vm uuid.UUID) (DomainState, error)
	// Addresses asks the network's leases and, for interfaces without one, the guest agent. A guest that does not answer costs
	// a short wait of this call and holds up no other.
	Addresses(ctx context.Context, vm uuid.UUID) ([]nodeapi.Address, error)
	// ReleaseLeases gives the domain's DHCP leases back as far as the host has the means to. Leases expire by themselves.
	ReleaseLeases(ctx context.Context, vm uuid.UUID) error
	// OpenConsole connects to the serial console of a running domain and takes it over from an earlier session.
	OpenConsole(ctx context.Context, vm uuid.UUID) (io.ReadWriteCloser, error)

	Disks
	Networks
	Hardware
	Agents
	Meter
	Screens
}

// Info describes a host and its hypervisor.
type Info struct {
	Hostname     string
	Architecture string   // x86_64
	CPUModel     string   // the hypervisor's name for the host's processor
	Accelerator  string   // kvm or tcg
	Hypervisors  []string // types of guests that it runs: kvm, lxc
	Version      string   // "QEMU 7.2.22, libvirt 9.0.0"
}

// DomainDef is all that a domain's definition holds. Paths are absolute.
type DomainDef struct {
	VMID           uuid.UUID
	InstallationID uuid.UUID
	TenantID       uuid.UUID
	Name           string // the tenant's
	Generation     int64
	VCPUs          int
	MemoryBytes    int64
	Disks          []Disk // in boot order
	Volumes        []Disk // never booted from
	SeedPath       string // ISO image; empty: none
	NICs           []nodeapi.NIC
	ConsoleLog     string // file that the serial console is logged to
	Hardware       nodeapi.Hardware
	NetworkBoot    int    // place of the first interface in the boot order; 0: none
	Drive          bool   // it has a drive for discs
	Disc           string // ISO image in the drive; empty: none
	DriveBoot      int    // place of the drive in the boot order; 0: none. Where nothing has a place, it comes after Disks
	Kernel         string // booted instead of what the disks begin with; empty: none
	Initrd         string
	CommandLine    string // of Kernel
	Autostart      int    // place in the order of a host's restart
}

// Disk is one disk.
type Disk struct {
	Path    string
	Backing string // qcow2 image below it; empty: none
	Format  string // qcow2 or raw; empty: qcow2
	Serial  string // what the guest finds it by; empty: none
	Boot    int    // place in the boot order; 0: none. Where nothing has a place, Disks come as they are listed
	Limits  nodeapi.IOLimits
}

// DomainState is what a hypervisor tells of a managed domain.
type DomainState struct {
	VMID           uuid.UUID
	InstallationID uuid.UUID
	Generation     int64 // of the definition
	Observed       nodeapi.Observed
	Reason         string   // ReasonUnknown where the hypervisor has forgotten it
	MACs           []string // of its interfaces
	Saved          bool     // it is off with its memory on disk
	Autostart      int      // of the definition
	// Boot tells this time that it was powered on, or gone on from saved memory, from others while the host runs. Empty while it is off.
	Boot string
}

// ReasonUnknown stands where a hypervisor no longer knows how a domain came to its state, as after its own restart.
const ReasonUnknown = "unknown"

// EventKind says what an Event tells.
type EventKind string

// The kinds of events.
const (
	EventState        EventKind = "state"        // a domain changed its state
	EventConnected    EventKind = "connected"    // the hypervisor is there (again); events may have been missed before it
	EventDisconnected EventKind = "disconnected" // the hypervisor is away
)

// Event is one change. VMID, Observed, Reason and Boot are set for EventState only.
type Event struct {
	Kind     EventKind
	VMID     uuid.UUID
	Observed nodeapi.Observed
	Reason   string
	Saved    bool
	Boot     string // as in DomainState; empty where it is not known
	At       time.Time
}
