package nodeapi

import (
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// The verbs that make a disk anew.
const (
	VerbCloneDisk   Verb = "vm.disk.clone"   // DiskClone -> Empty: the disk of a new virtual machine is copied from another's
	VerbReplaceDisk Verb = "vm.disk.replace" // DiskSpec -> Empty: of one that is off; what the disk held is lost
)

// VerbDropDisk removes a disk that the machine has for a while: DiskRef -> Empty. The root disk goes with the machine alone.
const VerbDropDisk Verb = "vm.disk.drop"

// DiskRef names a disk of a virtual machine.
type DiskRef struct {
	Name string `json:"name"`
}

// DiskClone asks for a disk that holds what the same disk of another virtual machine on the node holds: now, whether that runs or not, or
// in one of its snapshots.
type DiskClone struct {
	Name     string     `json:"name"` // "root"
	Source   uuid.UUID  `json:"source"`
	Snapshot *uuid.UUID `json:"snapshot,omitempty"`
	// Linked has the copy stand on the image that the source stands on, so that only what differs from it is copied.
	Linked    bool  `json:"linked,omitempty"`
	SizeBytes int64 `json:"size_bytes"`
}

// The errors of cloning.
var (
	ErrCloneGone = errs.New(errs.Conflict, "vm.clone_source_gone", "what was to be cloned is gone from its node").
			WithAction("Look whether the machine and its snapshot are still there, and clone what is.")
	ErrCloneAlone = errs.New(errs.Conflict, "vm.clone_no_base", "the disk stands on no image that a linked clone could share").WithAction("Ask for a full clone.")
	ErrCloneBusy  = errs.New(errs.Conflict, "vm.clone_source_busy", "the machine that is to be cloned is being changed").WithRetryable(true).
			WithAction("Nothing; it is tried again.")
)
