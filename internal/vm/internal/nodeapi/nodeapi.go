// Package nodeapi is what the two roles of the vm module say to each other: the controller's commands to a node and the node's
// reports to the controller. Both travel on the bus as request/reply, also when the roles share a process.
//
// Every command is idempotent ("make it so") and carries the generation of the intent behind it. A node that has seen a newer
// generation of the same virtual machine refuses an older one with ErrStaleGeneration, and a newer one interrupts an older one that
// is still at work. No bulk bytes travel here: the node fetches and sends those over stream tickets.
package nodeapi

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Verb names a command.
type Verb string

// The verbs. Those that begin with "vm." are about one virtual machine and fenced by its generation.
const (
	VerbPullImage     Verb = "image.pull"      // ImagePull -> ImagePulled
	VerbDropImage     Verb = "image.drop"      // ImageDrop -> Empty
	VerbEnsureMedia   Verb = "vm.media.ensure" // Media -> Empty: discs, kernels and initrds out of the cache, at the machine's hand
	VerbEnsureNetwork Verb = "network.ensure"  // NetworkSpec -> Empty
	VerbRemoveNetwork Verb = "network.remove"  // NetworkRef -> Empty
	VerbEnsureDisk    Verb = "vm.disk.ensure"  // DiskSpec -> Empty
	VerbEnsureSeed    Verb = "vm.seed.ensure"  // SeedSpec -> Empty
	VerbDefine        Verb = "vm.define"       // DomainSpec -> Status
	VerbStart         Verb = "vm.start"        // Empty -> Status
	VerbShutdown      Verb = "vm.shutdown"     // ShutdownSpec -> Status: ACPI, then forced after the grace time
	VerbReboot        Verb = "vm.reboot"       // ShutdownSpec -> Status: shut down as VerbShutdown does, then start
	VerbReset         Verb = "vm.reset"        // Empty -> Status: the reset button
	VerbPause         Verb = "vm.pause"        // Empty -> Status
	VerbResume        Verb = "vm.resume"       // Empty -> Status
	VerbSuspend       Verb = "vm.suspend"      // Empty -> Status: memory to disk, then off; VerbStart goes on from there
	VerbResize        Verb = "vm.resize"       // Resize -> Resized: what a guest that runs can take up at once, it does
	VerbTune          Verb = "vm.tune"         // Tune -> Status: name and limits of a guest that runs
	VerbRemove        Verb = "vm.remove"       // Empty -> Empty: domain, disks, seed, console log, lease; leaves a tombstone
	VerbInspect       Verb = "vm.inspect"      // Empty -> Status
	VerbReadConsole   Verb = "vm.console.read" // ConsoleRead -> ConsoleChunk
	VerbOpenConsole   Verb = "vm.console.open" // ConsoleOpen -> Empty: the node dials the stream and pumps the console
	VerbScreenshot    Verb = "vm.screen.shoot" // ScreenshotSpec -> Empty: the node dials the stream and sends the picture
	VerbList          Verb = "node.list"       // Empty -> StatusList
	VerbDrain         Verb = "node.drain"      // ShutdownSpec -> Empty: the host is about to restart, so all guests are shut down
	VerbRanges        Verb = "node.ranges"     // Empty -> Ranges
)

// Command is the envelope of every verb.
type Command struct {
	ID             uuid.UUID `json:"id"` // of this command; the same id is the same command
	InstallationID uuid.UUID `json:"installation_id"`
	VMID           uuid.UUID `json:"vm_id"` // zero for verbs that are not about a virtual machine
	Generation     int64     `json:"generation"`
	Verb           Verb      `json:"verb"`
	Body           []byte    `json:"body"` // JSON of the verb's request
}

// Empty is the body of verbs that need none and the answer of those that have none.
type Empty struct{}

// ImagePull asks a node to have an image in its cache.
type ImagePull struct {
	ImageID   uuid.UUID `json:"image_id"`
	SHA256    string    `json:"sha256"`         // hex, of the stored file; also its name in the cache
	Kind      string    `json:"kind,omitempty"` // MediaISO, MediaBoot; empty: a qcow2 disk
	SizeBytes int64     `json:"size_bytes"`
	StreamURL string    `json:"stream_url"` // where to fetch it: unix:<socket>:/internal/v1/streams/<ticket> or https://…
}

// ImagePulled answers ImagePull.
type ImagePulled struct {
	Cached bool `json:"cached"` // it was there before
}

// ImageDrop asks a node to forget a cached image. Disks that still use it keep it until they are gone.
type ImageDrop struct {
	SHA256 string `json:"sha256"`
}

// NetworkSpec describes a virtual network on a node.
type NetworkSpec struct {
	ID        uuid.UUID `json:"id"`
	Name      string    `json:"name"`
	Mode      string    `json:"mode"`   // nat, isolated, routed, bridge
	Bridge    string    `json:"bridge"` // name of the bridge device, at most 15 characters
	CIDR      string    `json:"cidr"`
	Gateway   string    `json:"gateway"`
	DHCPStart string    `json:"dhcp_start"` // empty: no DHCP
	DHCPEnd   string    `json:"dhcp_end"`
	CIDR6     string    `json:"cidr6"` // empty: no IPv6
	Gateway6  string    `json:"gateway6"`
	Uplink    string    `json:"uplink"` // mode bridge: device of the host that leads outside
	VLAN      int       `json:"vlan"`   // mode bridge: tag on the uplink; 0: none, and the uplink is a bridge
}

// NetworkRef names a network to remove.
type NetworkRef struct {
	ID     uuid.UUID `json:"id"`
	Bridge string    `json:"bridge"` // that the node has made for it, if any
}

// DiskSpec describes one disk of a virtual machine: a copy-on-write overlay over an image, or an empty one.
type DiskSpec struct {
	Name        string `json:"name"`                   // "root"
	ImageSHA256 string `json:"image_sha256,omitempty"` // empty: an empty disk
	SizeBytes   int64  `json:"size_bytes"`
}

// SeedSpec is the NoCloud seed of a virtual machine.
type SeedSpec struct {
	MetaData      string `json:"meta_data"`
	UserData      string `json:"user_data"`
	VendorData    string `json:"vendor_data,omitempty"`
	NetworkConfig string `json:"network_config,omitempty"`
}

// NIC is one network interface.
type NIC struct {
	NetworkID uuid.UUID `json:"network_id"`
	MAC       string    `json:"mac"`
	Down      bool      `json:"down"` // its link
}

// DomainSpec is all a node must know to define the domain. Paths are the node's own affair.
type DomainSpec struct {
	Name        string    `json:"name"` // the tenant's name for it; the domain's name is made of the id
	TenantID    uuid.UUID `json:"tenant_id"`
	VCPUs       int       `json:"vcpus"`
	MemoryBytes int64     `json:"memory_bytes"`
	Disks       []string  `json:"disks"` // names of disks made by VerbEnsureDisk, in boot order
	Seed        bool      `json:"seed"`
	NICs        []NIC     `json:"nics"`
	Hardware    Hardware  `json:"hardware"`
	Autostart   int       `json:"autostart"`         // its place in the order of a host's restart
	Volumes     []Volume  `json:"volumes,omitempty"` // attached beside the disks of its own
	Media
	CommandLine string `json:"command_line,omitempty"` // of Kernel
}

// ShutdownSpec bounds how long a guest may take to shut down before it is powered off. Zero powers off at once.
type ShutdownSpec struct {
	Grace time.Duration `json:"grace_ns"`
	// Discard throws memory away that is saved on disk.
	Discard bool `json:"discard,omitempty"`
}

// ConsoleRead asks for a part of the serial console's log.
type ConsoleRead struct {
	Offset   int64 `json:"offset"`    // from the start; negative counts from the end
	MaxBytes int   `json:"max_bytes"` // at most ConsoleChunkMax
}

// ConsoleChunkMax is the most that one ConsoleRead answers.
const ConsoleChunkMax = 256 << 10

// ConsoleChunk is a part of the serial console's log.
type ConsoleChunk struct {
	Offset int64  `json:"offset"` // of the first byte
	Size   int64  `json:"size"`   // of the whole log now
	Data   []byte `json:"data"`
}

// The kinds of consoles.
const (
	ConsoleSerial = "serial"
	ConsoleVNC    = "vnc"
)

// ConsoleOpen asks a node to connect a console to a stream of the controller.
type ConsoleOpen struct {
	StreamURL string `json:"stream_url"`
	Kind      string `json:"kind,omitempty"` // empty: ConsoleSerial
}

// ScreenshotSpec asks a node to send a picture of the screen to a stream of the controller: its length in 8 bytes, the highest first, and the
// picture as PNG, of at most ScreenshotMax bytes.
type ScreenshotSpec struct {
	StreamURL string `json:"stream_url"`
}

// ErrViewers says that as many watch already as can.
var ErrViewers = errs.New(errs.Conflict, "vm.too_many_viewers", "too many viewers are connected").WithRetryable(true).WithAction("Try again when one of them has left.")

// ErrNoScreen says that a guest has none: it was powered on before its definition had one.
var ErrNoScreen = errs.New(errs.Conflict, "vm.no_screen", "the virtual machine has no screen").
	WithAction("Stop it and start it again: it gets its screen when it is powered on from off.")

// ScreenshotMax is the most that a picture of a screen has, in bytes.
const ScreenshotMax = 16 << 20

// Observed is the state of a domain as the hypervisor tells it.
type Observed string

// The observed states.
const (
	ObservedAbsent  Observed = "absent"  // no such domain
	ObservedStopped Observed = "stopped" // defined, not running
	ObservedRunning Observed = "running"
	ObservedPaused  Observed = "paused"
	ObservedCrashed Observed = "crashed"
)

// Address is an address of a guest.
type Address struct {
	MAC    string `json:"mac"`
	IP     string `json:"ip"`
	Source string `json:"source"` // lease or agent
}

// Status is what a node sees of one virtual machine.
type Status struct {
	VMID       uuid.UUID `json:"vm_id"`
	Generation int64     `json:"generation"` // newest that the node applied
	Observed   Observed  `json:"observed"`
	// Reason is the hypervisor's word for how it came to this state: "booted", "shutdown", "destroyed", "crashed", "failed", …
	Reason    string    `json:"reason"`
	Addresses []Address `json:"addresses,omitempty"`
	At        time.Time `json:"at"`
	// Saved says that it is off with its memory on disk.
	Saved bool `json:"saved,omitempty"`
	// ReadyAt is when the guest told, since it came on, that it is set up. One that has not may have told before the node started.
	ReadyAt *time.Time `json:"ready_at,omitempty"`
	// Boot tells this time that it came on from every other. Empty while it is off, and from nodes that do not tell.
	Boot string `json:"boot,omitempty"`
}

// StatusList is every managed virtual machine of a node.
type StatusList struct {
	Statuses []Status `json:"statuses"`
}

// Ranges lists the ranges of IPv4 and IPv6 that the host of a node has routes to, other than by the default route. A network must not overlap
// with any of them.
type Ranges struct {
	Ranges []Range `json:"ranges"`
}

// Range is one of them.
type Range struct {
	CIDR   string `json:"cidr"`
	Device string `json:"device"`
}

// Report is what a node tells the controller, again and again until it is acknowledged.
type Report struct {
	ID     uuid.UUID `json:"id"` // of this report; a repeated report has the same id
	NodeID uuid.UUID `json:"node_id"`
	Epoch  int64     `json:"epoch"` // of the node role's start
	Seq    int64     `json:"seq"`   // order within the epoch
	// Hello is set on the first report of an epoch, which asks for the installation's id and brings every status at once.
	Hello    bool     `json:"hello"`
	Statuses []Status `json:"statuses"`
}

// Ack answers a Report.
type Ack struct {
	InstallationID uuid.UUID `json:"installation_id"`
}

// The errors a node answers with.
var (
	ErrStaleGeneration = errs.New(errs.Conflict, "vm.stale_generation", "a newer request for this virtual machine has overtaken this one")
	ErrNotDefined      = errs.New(errs.Conflict, "vm.not_defined", "the virtual machine does not exist on the node")
	ErrHypervisor      = errs.New(errs.Unavailable, "vm.hypervisor_unavailable", "the hypervisor of the node does not answer").
				WithAction("Check libvirtd on the node; the operation goes on by itself when it is back.")
	ErrHypervisorRefused = errs.New(errs.Internal, "vm.hypervisor_refused", "the hypervisor refused the request")
	ErrStorage           = errs.New(errs.Internal, "vm.storage_failed", "the node could not write to its storage")
	ErrStorageFull       = errs.New(errs.Conflict, "vm.storage_full", "the node's storage is full").
				WithAction("Free space on the node or add storage, then try again.")
	ErrImageMissing      = errs.New(errs.Unavailable, "vm.image_not_cached", "the image is not in the node's cache any more")
	ErrWrongInstallation = errs.New(errs.Conflict, "vm.wrong_installation", "the node belongs to another installation")
	ErrNodeSilent        = errs.New(errs.Unavailable, "vm.node_unavailable", "the node of the virtual machine does not answer").
				WithAction("Check the node; the operation goes on by itself when it is back.")
	ErrNotReady        = errs.New(errs.Unavailable, "vm.node_not_ready", "the controller has not answered the node's first report")
	ErrNetworkConflict = errs.New(errs.Conflict, "vm.network_conflict", "the network clashes with one that the node has already")
	ErrHardware        = errs.New(errs.Invalid, "vm.hardware_unsupported", "the node cannot give the virtual machine this hardware").WithAction("Choose another processor model, or leave it to the node.")
	ErrUnknownVerb     = errs.New(errs.Invalid, "vm.unknown_verb", "the node does not know this command")
	ErrInvalidCommand  = errs.New(errs.Invalid, "vm.invalid_command", "the node cannot carry this command out as it is")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{ErrStaleGeneration, ErrNotDefined, ErrHypervisor, ErrHypervisorRefused, ErrStorage, ErrStorageFull, ErrImageMissing,
		ErrWrongInstallation, ErrNodeSilent, ErrNotReady, ErrHardware, ErrUnknownVerb, ErrInvalidCommand, ErrSnapshotLost,
		ErrQuarantineOccupied, ErrNotQuarantined, ErrGuestOn, ErrCloneGone, ErrCloneAlone, ErrCloneBusy, ErrNoScreen, ErrViewers}
}
