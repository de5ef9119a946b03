package driver

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Disks is the part of a driver that changes the disks of a domain that is there. Disks are named by their paths. Methods that need a
// guest that runs or is paused answer nodeapi.ErrHypervisorRefused for one that is off: its files are then for the caller to change, and
// its definition for Define.
type Disks interface {
	// AttachDisk plugs a disk into a guest that runs or is paused. One that is plugged in already is left so. The definition stays.
	AttachDisk(ctx context.Context, vm uuid.UUID, disk Disk) error
	// DetachDisk asks the guest, without waiting, to let go of a disk. It tells whether the guest has none of that path any more; for a
	// domain that is off that is true.
	DetachDisk(ctx context.Context, vm uuid.UUID, path string) (gone bool, err error)
	// AttachedDisks lists the paths of the disks that a guest has now, or would have at its start where it is off.
	AttachedDisks(ctx context.Context, vm uuid.UUID) ([]string, error)
	// ResizeDisk makes a disk of a guest that runs or is paused so large, and tells the guest.
	ResizeDisk(ctx context.Context, vm uuid.UUID, path string, size int64) error

	// SnapshotDisks makes all the disks hold a snapshot of one and the same moment. It asks for qcow2 disks of a guest that runs or is
	// paused. Disks that hold it all already are left so.
	SnapshotDisks(ctx context.Context, vm uuid.UUID, name string, paths []string) error
	// SnapshotMemory does so with all writable disks and keeps the memory with them; the guest is held meanwhile. It answers the
	// hypervisor's own record, which RevertMemory may need.
	SnapshotMemory(ctx context.Context, vm uuid.UUID, name string) (record string, err error)
	// DropSnapshot makes the hypervisor forget a snapshot, and the disks too where the guest runs or is paused. It is idempotent.
	DropSnapshot(ctx context.Context, vm uuid.UUID, name string, paths []string) error
	// RevertMemory brings a domain that is off back as it was in a snapshot with memory: disks, memory, running or paused.
	RevertMemory(ctx context.Context, vm uuid.UUID, name, record string) error

	// AgentConnected tells whether a guest agent has opened its end of the channel. It may hang all the same.
	AgentConnected(ctx context.Context, vm uuid.UUID) (bool, error)
	// Freeze has the guest agent hold the guest's file systems. It takes not much longer than patience, and answers ErrNoAgent where
	// there is none or it does not answer in time; then the file systems may become held later, so Thaw must follow in any case.
	Freeze(ctx context.Context, vm uuid.UUID, patience time.Duration) error
	// Thaw lets them go on. Where nothing is held it does nothing. A domain that is off holds nothing.
	Thaw(ctx context.Context, vm uuid.UUID, patience time.Duration) error
}

// ErrNoAgent says that there is no guest agent, or that it does not answer or refuses.
var ErrNoAgent = errors.New("the guest agent does not answer")
