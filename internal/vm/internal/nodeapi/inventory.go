package nodeapi

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// The verbs of what drifts. A machine or volume in quarantine is named by its id alone: it may have no row and so no generation.
const (
	VerbInventory  Verb = "node.inventory"          // Empty -> Inventory
	VerbQuarantine Verb = "node.quarantine"         // QuarantineSpec -> Empty: set aside, so that it can come back
	VerbRestore    Verb = "node.quarantine.restore" // ObjectRef -> Empty: its files are where they were
	VerbReap       Verb = "node.quarantine.reap"    // ObjectRef -> Empty: gone for good
)

// Inventory is what a node holds. What carries the mark of another installation is counted and no more.
type Inventory struct {
	Domains     []uuid.UUID        `json:"domains"`
	On          []uuid.UUID        `json:"on"`     // of these, those that are on, or off with their memory saved
	Edited      []EditedDefinition `json:"edited"` // of these, those whose definition is not what NovaCron gave last
	Folders     []FolderOfDisk     `json:"folders"`
	Volumes     []uuid.UUID        `json:"volumes"`
	Networks    []uuid.UUID        `json:"networks"`
	Quarantined []Quarantined      `json:"quarantined"`
	Unmanaged   int                `json:"unmanaged"`
}

// FolderOfDisk is the folder of a virtual machine's files.
type FolderOfDisk struct {
	VMID uuid.UUID `json:"vm_id"`
	Root bool      `json:"root"` // the root disk is there
}

// EditedDefinition is a definition that others changed.
type EditedDefinition struct {
	VMID    uuid.UUID `json:"vm_id"`
	Changes string    `json:"changes"` // for people: the lines that came and went
}

// QuarantineKind says what is in quarantine.
type QuarantineKind string

// The kinds of what is in quarantine.
const (
	QuarantineVM     QuarantineKind = "vm"
	QuarantineVolume QuarantineKind = "volume"
)

// Quarantined is one machine or volume in quarantine.
type Quarantined struct {
	ID    uuid.UUID      `json:"id"`
	Kind  QuarantineKind `json:"kind"`
	At    time.Time      `json:"at"`
	Bytes int64          `json:"bytes"`
}

// QuarantineSpec says what to set aside.
type QuarantineSpec struct {
	Kind QuarantineKind `json:"kind"`
	ID   uuid.UUID      `json:"id"`
	// Force powers off what is on, and throws away what memory is saved. Without it such a machine is refused with ErrGuestOn.
	Force bool `json:"force,omitempty"`
}

// ObjectRef names what is in quarantine.
type ObjectRef struct {
	ID uuid.UUID `json:"id"`
}

// The errors of the quarantine.
var (
	ErrQuarantineOccupied = errs.New(errs.Conflict, "drift.occupied", "there are files already where these are to go").
				WithAction("Look at both on the node, and move away those that are not wanted.")
	ErrNotQuarantined = errs.New(errs.NotFound, "drift.not_quarantined", "there is nothing of this id in quarantine")
	ErrGuestOn        = errs.New(errs.Conflict, "drift.guest_on", "the guest is on, or has its memory saved").
				WithAction("Shut it down on the node, or repeat the request with force to have it powered off.")
)
