package fake

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Save implements driver.Driver.
func (d *Driver) Save(ctx context.Context, id uuid.UUID) error {
	return d.domain(ctx, "Save", id, func(dom *domain) error {
		if isOn(dom) {
			dom.saved = true
			d.set(id, nodeapi.ObservedStopped, "saved")
		}
		return nil
	})
}

// DropSaved implements driver.Driver.
func (d *Driver) DropSaved(ctx context.Context, id uuid.UUID) error {
	return d.domain(ctx, "DropSaved", id, func(dom *domain) error {
		if dom.saved {
			dom.saved = false
			d.set(id, dom.observed, dom.reason)
		}
		return nil
	})
}

// Resize implements driver.Driver. The fake's guests take vCPUs and blocks of memory up and give memory back at once.
func (d *Driver) Resize(ctx context.Context, id uuid.UUID, size driver.Size) (now driver.Size, on bool, err error) {
	err = d.domain(ctx, "Resize", id, func(dom *domain) error {
		if on = isOn(dom); !on {
			return nil
		}
		if size.VCPUs <= driver.MaxVCPUs(dom.booted.VCPUs, dom.booted.Hardware) && size.VCPUs >= dom.booted.VCPUs {
			dom.size.VCPUs = size.VCPUs
		}
		has := max(dom.booted.MemoryBytes, dom.plugged)
		if size.MemoryBytes > has {
			dom.plugged = min(size.MemoryBytes-(size.MemoryBytes-has)%driver.MemoryBlock, driver.MaxMemory(dom.booted.MemoryBytes))
			dom.size.MemoryBytes = dom.plugged
		} else {
			dom.size.MemoryBytes = size.MemoryBytes
		}
		now = dom.size
		return nil
	})
	return now, on, err
}

// Tune implements driver.Driver.
func (d *Driver) Tune(ctx context.Context, id uuid.UUID, name string, limits map[string]nodeapi.IOLimits) error {
	return d.domain(ctx, "Tune", id, func(dom *domain) error {
		if isOn(dom) {
			dom.title, dom.limits = name, limits
		}
		return nil
	})
}

// SetDisc implements driver.Driver.
func (d *Driver) SetDisc(ctx context.Context, id uuid.UUID, path string) error {
	return d.domain(ctx, "SetDisc", id, func(dom *domain) error {
		switch {
		case !isOn(dom) || !dom.booted.Drive || dom.disc == path:
			return nil
		case d.holdDiscs:
			return vm.ErrCDROMHeld
		}
		dom.disc = path
		return nil
	})
}

// HoldDiscs makes guests keep their drives closed.
func (d *Driver) HoldDiscs(hold bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holdDiscs = hold
}

// Disc tells what is in the drive of a guest that is on.
func (d *Driver) Disc(id uuid.UUID) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[id]; dom != nil {
		return dom.disc
	}
	return ""
}

// SizeOf tells what a guest has now.
func (d *Driver) SizeOf(id uuid.UUID) driver.Size {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[id]; dom != nil {
		return dom.size
	}
	return driver.Size{}
}
