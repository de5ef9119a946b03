package fake

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Save implements driver.Driver.
func (d *Driver) Save(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "Save", vm, func(dom *domain) error {
		if isOn(dom) {
			dom.saved = true
			d.set(vm, nodeapi.ObservedStopped, "saved")
		}
		return nil
	})
}

// DropSaved implements driver.Driver.
func (d *Driver) DropSaved(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "DropSaved", vm, func(dom *domain) error {
		if dom.saved {
			dom.saved = false
			d.set(vm, dom.observed, dom.reason)
		}
		return nil
	})
}

// Resize implements driver.Driver. The fake's guests take vCPUs up and give memory back at once, and know no more memory than they
// booted with.
func (d *Driver) Resize(ctx context.Context, vm uuid.UUID, size driver.Size) (now driver.Size, on bool, err error) {
	err = d.domain(ctx, "Resize", vm, func(dom *domain) error {
		if on = isOn(dom); !on {
			return nil
		}
		if size.VCPUs <= driver.MaxVCPUs(dom.booted.VCPUs, dom.booted.Hardware) && size.VCPUs >= dom.booted.VCPUs {
			dom.size.VCPUs = size.VCPUs
		}
		if size.MemoryBytes <= dom.booted.MemoryBytes {
			dom.size.MemoryBytes = size.MemoryBytes
		}
		now = dom.size
		return nil
	})
	return now, on, err
}

// Tune implements driver.Driver.
func (d *Driver) Tune(ctx context.Context, vm uuid.UUID, name string, limits map[string]nodeapi.IOLimits) error {
	return d.domain(ctx, "Tune", vm, func(dom *domain) error {
		if isOn(dom) {
			dom.title, dom.limits = name, limits
		}
		return nil
	})
}

// SizeOf tells what a guest has now.
func (d *Driver) SizeOf(vm uuid.UUID) driver.Size {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[vm]; dom != nil {
		return dom.size
	}
	return driver.Size{}
}
