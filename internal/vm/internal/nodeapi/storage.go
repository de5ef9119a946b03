package nodeapi

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// The verbs of storage. Those that begin with "volume." are about one volume that no virtual machine has: the command's VMID is the
// volume's id and its Generation the volume's, by which they are fenced as virtual machines are. What a virtual machine has is changed by
// the verbs that begin with "vm.", under the generation of the virtual machine.
const (
	VerbEnsureVolume Verb = "volume.ensure"         // VolumeSpec -> FileUsage
	VerbGrowVolume   Verb = "volume.grow"           // VolumeSpec -> FileUsage
	VerbCleanVolume  Verb = "volume.snapshots.drop" // VolumeClean -> Empty
	VerbRemoveVolume Verb = "volume.remove"         // Empty -> Empty; leaves a tombstone
	VerbListVolumes  Verb = "volume.list"           // Empty -> VolumeList

	VerbListDisks      Verb = "vm.disk.list"       // DiskList -> DiskUsage
	VerbPlugDisks      Verb = "vm.disk.plug"       // DiskPlug -> Status: a guest that runs gets the volumes that it lacks
	VerbUnplugDisk     Verb = "vm.disk.unplug"     // DiskUnplug -> Status
	VerbGrowDisk       Verb = "vm.disk.grow"       // DiskGrow -> Status
	VerbTakeSnapshot   Verb = "vm.snapshot.take"   // SnapshotTake -> SnapshotTaken
	VerbDropSnapshot   Verb = "vm.snapshot.drop"   // SnapshotRef -> Empty
	VerbRevertSnapshot Verb = "vm.snapshot.revert" // SnapshotRevert -> Status: of a guest that is off
)

// Volume names a volume for the node that has it.
type Volume struct {
	ID     uuid.UUID `json:"id"`
	Format string    `json:"format"` // qcow2 or raw
}

// VolumeSpec describes a volume to make or to grow.
type VolumeSpec struct {
	Format      string `json:"format"`
	SizeBytes   int64  `json:"size_bytes"`
	ImageSHA256 string `json:"image_sha256,omitempty"` // empty: an empty volume
}

// VolumeClean names the snapshots that a volume outlives, because it was detached by the end of its virtual machine.
type VolumeClean struct {
	Format    string      `json:"format"`
	Snapshots []uuid.UUID `json:"snapshots"`
}

// FileUsage is how large a disk is and what its file takes.
type FileUsage struct {
	ID             uuid.UUID `json:"id,omitzero"`    // of a volume
	Name           string    `json:"name,omitempty"` // of a disk that is none
	SizeBytes      int64     `json:"size_bytes"`
	AllocatedBytes int64     `json:"allocated_bytes"`
}

// VolumeList is every volume of a node.
type VolumeList struct {
	Volumes []FileUsage `json:"volumes"`
}

// DiskList asks for the usage of the disks of a virtual machine.
type DiskList struct {
	Disks   []string `json:"disks"`
	Volumes []Volume `json:"volumes"`
}

// DiskUsage answers it.
type DiskUsage struct {
	Disks []FileUsage `json:"disks"`
	Agent bool        `json:"agent"` // a guest agent answers
}

// DiskPlug lists the volumes that a virtual machine is to have.
type DiskPlug struct {
	Volumes []Volume `json:"volumes"`
}

// DiskUnplug asks the guest to let go of a volume, and waits so long for it.
type DiskUnplug struct {
	Volume   Volume        `json:"volume"`
	Patience time.Duration `json:"patience_ns"`
}

// DiskGrow makes a disk larger, while the guest runs or not.
type DiskGrow struct {
	Disk      string  `json:"disk,omitempty"`
	Volume    *Volume `json:"volume,omitempty"` // instead of Disk
	SizeBytes int64   `json:"size_bytes"`
}

// Quiesce says whether the guest agent is to hold the guest's file systems.
type Quiesce string

// The ways.
const (
	QuiesceAuto     Quiesce = "auto" // where there is an agent that answers
	QuiesceRequired Quiesce = "required"
	QuiesceOff      Quiesce = "off"
)

// SnapshotRef names a snapshot and the disks that it is in.
type SnapshotRef struct {
	ID      uuid.UUID `json:"id"`
	Disks   []string  `json:"disks"`
	Volumes []Volume  `json:"volumes"`
}

// SnapshotTake asks for a snapshot.
type SnapshotTake struct {
	SnapshotRef
	Memory  bool    `json:"memory"`
	Quiesce Quiesce `json:"quiesce"`
}

// SnapshotTaken answers it. The same snapshot asked for again answers the same.
type SnapshotTaken struct {
	Observed    Observed      `json:"observed"` // the guest was
	Frozen      bool          `json:"frozen"`
	Pause       time.Duration `json:"pause_ns"`
	MemoryBytes int64         `json:"memory_bytes"`
}

// SnapshotRevert asks a virtual machine that is off to go back to a snapshot. With Memory it runs afterwards, or is paused, as it did
// then. Sizes keeps disks that have grown since as large as they are.
type SnapshotRevert struct {
	SnapshotRef
	Memory bool    `json:"memory"`
	Sizes  []int64 `json:"sizes"` // of Disks, then of Volumes
}

// ErrSnapshotLost says that a disk does not have the snapshot that the controller knows of.
var ErrSnapshotLost = errs.New(errs.Conflict, "snapshot.lost", "a disk does not hold the snapshot any more").
	WithAction("Delete the snapshot; it was removed behind NovaCron's back.")
