package driver

import (
	"context"

	"github.com/google/uuid"
)

// Meter is the part of a driver that measures guests.
type Meter interface {
	// Stats measures every managed guest that is on, in one bulk call of the hypervisor. A guest that hangs holds it up for a moment
	// at most, and not each time; of such a guest, and where time was short of all, Partial is set and only part is measured.
	Stats(ctx context.Context) ([]Stats, error)
}

// Stats is what was measured of a guest. Counters begin at its start. Nil: not measured.
type Stats struct {
	VMID          uuid.UUID
	Partial       bool
	CPUTime       int64 // ns
	VCPUs         int   // 0: not known
	NetSent       *int64
	NetRecv       *int64
	DiskRead      *int64
	DiskWritten   *int64
	DiskAllocated *int64
	DiskCapacity  *int64
	Memory        *int64 // bytes that the balloon leaves to the guest
	MemoryMax     *int64
	RSS           *int64
	Available     *int64 // memory that the guest's kernel has, and what of it could be used without swapping, as the balloon driver tells
	Usable        *int64
}
