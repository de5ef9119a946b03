package vm

import (
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// CloneMode says what the root disk of a clone stands on.
type CloneMode string

// The modes of cloning.
const (
	CloneFull   CloneMode = "full"   // on nothing: all that the source's disk holds is copied
	CloneLinked CloneMode = "linked" // on the image that the source's disk stands on: what differs from it is copied
)

// Origin tells what a virtual machine was cloned from, which may be gone by now.
type Origin struct {
	VMID       uuid.UUID  `json:"vm_id" doc:"The virtual machine that it was cloned from."`
	SnapshotID *uuid.UUID `json:"snapshot_id,omitempty" doc:"The snapshot of it; none: as it was when the disk was copied."`
	Mode       CloneMode  `json:"mode" enum:"full,linked"`
}

// The errors of cloning and rebuilding.
var (
	ErrRebuildSnapshots = errs.New(errs.Conflict, "vm.has_snapshots", "snapshots hold the disk that would be made anew").
				WithAction("Delete the machine's snapshots first.")
	ErrRebuildPending = errs.New(errs.Conflict, "vm.rebuild_pending", "the machine's disk is half made anew").
				WithAction("Start it, which finishes that, or rebuild it again.")
)

func cloneErrors() []*errs.Error { return []*errs.Error{ErrRebuildSnapshots, ErrRebuildPending} }
