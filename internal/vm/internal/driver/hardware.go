package driver

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Hardware is the part of a driver that saves the memory of a domain to disk and changes what it has while it runs.
type Hardware interface {
	// Save writes the memory of a guest that runs or is paused to disk and powers it off; Start goes on from there. What is off is left
	// so. It is given up when ctx ends, and the guest goes on.
	Save(ctx context.Context, vm uuid.UUID) error
	// DropSaved forgets saved memory. Where there is none it does nothing.
	DropSaved(ctx context.Context, vm uuid.UUID) error
	// Resize gives a guest that runs or is paused what it can take up at once, and answers what it has then. What the guest refuses
	// is no error; a domain that is off takes its definition up at its next start.
	Resize(ctx context.Context, vm uuid.UUID, size Size) (now Size, on bool, err error)
	// Tune gives a guest that runs or is paused its name, and limits to its disks by their paths. What is off is left so.
	Tune(ctx context.Context, vm uuid.UUID, name string, limits map[string]nodeapi.IOLimits) error
	// SetDisc puts a disc into the drive of a guest that runs or is paused; an empty path takes it out. What is off, or has no drive, is left
	// so. It answers vm.ErrCDROMHeld where the guest keeps the drive closed.
	SetDisc(ctx context.Context, vm uuid.UUID, path string) error
}

// Size is how large a domain is.
type Size struct {
	VCPUs       int
	MemoryBytes int64
}

// What a guest can be given of memory while it runs.
const (
	// MemoryBlock is what memory comes in: Linux on x86-64 takes none up in smaller parts.
	MemoryBlock = 128 << 20
	// MemorySlots bounds how often memory can be added to a guest without being powered off.
	MemorySlots = 16
	// hotMemoryFloor is what a guest must have to be given more while it runs. Linux keeps 64 MiB to itself for devices that reach the first 4 GiB only as soon as
	// there may come to be memory beyond these (arch/x86/mm/srat.c, pci-dma.c: max_possible_pfn), which is too much to take from a small guest.
	hotMemoryFloor = 1 << 30
	// hotMemoryGrowth is how many times its memory a guest can have without being powered off. A place for memory costs a guest nothing.
	hotMemoryGrowth = 4
)

// MaxMemory is how much memory a guest can have without being powered off, in bytes.
func MaxMemory(bytes int64) int64 {
	if bytes < hotMemoryFloor {
		return bytes
	}
	return bytes * hotMemoryGrowth
}

// MaxVCPUs is how many vCPUs a guest can have without being powered off.
func MaxVCPUs(vcpus int, hw nodeapi.Hardware) int {
	if n := hw.Sockets * hw.Cores * hw.Threads; n > 0 {
		return max(n, vcpus)
	}
	// A place for a vCPU costs a guest some hundred KiB of memory.
	return max(8, min(2*vcpus, 240), vcpus)
}
