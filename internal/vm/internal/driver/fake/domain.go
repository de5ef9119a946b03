package fake

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Info implements driver.Driver.
func (d *Driver) Info(ctx context.Context) (driver.Info, error) {
	info := driver.Info{
		Hostname: "fake", Architecture: "x86_64", CPUModel: "Fake", Accelerator: "tcg", Hypervisors: []string{"kvm"}, Version: "fake 1",
	}
	return info, d.call(ctx, "Info", uuid.Nil, false, func() error { return nil })
}

// Define implements driver.Driver.
func (d *Driver) Define(ctx context.Context, def driver.DomainDef) error {
	return d.call(ctx, "Define", def.VMID, true, func() error {
		dom := d.domains[def.VMID]
		if dom == nil {
			dom = &domain{observed: nodeapi.ObservedStopped, reason: driver.ReasonUnknown}
			d.domains[def.VMID] = dom
		}
		dom.def = def
		d.push(driver.Event{Kind: driver.EventState, VMID: def.VMID, Observed: dom.observed, Reason: dom.reason, Saved: dom.saved, Boot: dom.boot()})
		return nil
	})
}

// Definition implements driver.Driver.
func (d *Driver) Definition(ctx context.Context, vm uuid.UUID) (text string, err error) {
	err = d.call(ctx, "Definition", vm, false, func() error {
		dom := d.domains[vm]
		if dom == nil {
			return nodeapi.ErrNotDefined
		}
		body, err := json.MarshalIndent(dom.def, "", " ")
		text = "<!-- fake 1 -->\n" + string(body)
		return err
	})
	return text, err
}

func isOn(dom *domain) bool {
	return dom.observed == nodeapi.ObservedRunning || dom.observed == nodeapi.ObservedPaused
}

// domain runs a changing call on a domain that is there.
func (d *Driver) domain(ctx context.Context, method string, vm uuid.UUID, f func(*domain) error) error {
	return d.call(ctx, method, vm, true, func() error {
		dom := d.domains[vm]
		if dom == nil {
			return nodeapi.ErrNotDefined
		}
		return f(dom)
	})
}

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "Start", vm, func(dom *domain) error {
		if !isOn(dom) {
			dom.acpi = 0
			if dom.saved {
				dom.saved = false
				d.set(vm, nodeapi.ObservedRunning, "restored")
				return nil
			}
			dom.disc = dom.def.Disc
			dom.booted, dom.size, dom.plugged = dom.def, driver.Size{VCPUs: dom.def.VCPUs, MemoryBytes: dom.def.MemoryBytes}, 0
			d.set(vm, nodeapi.ObservedRunning, "booted")
		}
		return nil
	})
}

// Shutdown implements driver.Driver.
func (d *Driver) Shutdown(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "Shutdown", vm, func(dom *domain) error {
		if dom.acpi++; isOn(dom) && d.acpiAfter >= 0 && dom.acpi >= d.acpiAfter {
			d.set(vm, nodeapi.ObservedStopped, "shutdown")
		}
		return nil
	})
}

// Destroy implements driver.Driver.
func (d *Driver) Destroy(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "Destroy", vm, func(dom *domain) error {
		if isOn(dom) {
			d.set(vm, nodeapi.ObservedStopped, "destroyed")
		}
		return nil
	})
}

// Reset implements driver.Driver.
func (d *Driver) Reset(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "Reset", vm, func(dom *domain) error {
		if !isOn(dom) {
			return nodeapi.ErrHypervisorRefused
		}
		return nil
	})
}

// Suspend implements driver.Driver.
func (d *Driver) Suspend(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "Suspend", vm, func(dom *domain) error {
		if !isOn(dom) {
			return nodeapi.ErrHypervisorRefused
		}
		if dom.observed != nodeapi.ObservedPaused {
			d.set(vm, nodeapi.ObservedPaused, "paused")
		}
		return nil
	})
}

// Resume implements driver.Driver.
func (d *Driver) Resume(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "Resume", vm, func(dom *domain) error {
		if !isOn(dom) {
			return nodeapi.ErrHypervisorRefused
		}
		if dom.observed != nodeapi.ObservedRunning {
			d.set(vm, nodeapi.ObservedRunning, "resumed")
		}
		return nil
	})
}

// Undefine implements driver.Driver.
func (d *Driver) Undefine(ctx context.Context, vm uuid.UUID) error {
	return d.call(ctx, "Undefine", vm, true, func() error {
		d.set(vm, nodeapi.ObservedAbsent, "undefined")
		return nil
	})
}

func (dom *domain) boot() string {
	if !isOn(dom) {
		return ""
	}
	return strconv.Itoa(dom.boots)
}

func (dom *domain) state() driver.DomainState {
	s := driver.DomainState{
		VMID: dom.def.VMID, InstallationID: dom.def.InstallationID, Generation: dom.def.Generation,
		Observed: dom.observed, Reason: dom.reason, Saved: dom.saved, Autostart: dom.def.Autostart,
		Boot: dom.boot(),
	}
	for _, n := range dom.def.NICs {
		s.MACs = append(s.MACs, n.MAC)
	}
	return s
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.DomainState, error) {
	var list []driver.DomainState
	err := d.call(ctx, "List", uuid.Nil, false, func() error {
		for _, dom := range d.domains {
			list = append(list, dom.state())
		}
		return nil
	})
	return list, err
}

// ask runs a call that only asks on a domain that is there.
func (d *Driver) ask(ctx context.Context, method string, vm uuid.UUID, f func(*domain) error) error {
	return d.call(ctx, method, vm, false, func() error {
		dom := d.domains[vm]
		if dom == nil {
			return nodeapi.ErrNotDefined
		}
		return f(dom)
	})
}

// Status implements driver.Driver.
func (d *Driver) Status(ctx context.Context, vm uuid.UUID) (driver.DomainState, error) {
	var s driver.DomainState
	err := d.ask(ctx, "Status", vm, func(dom *domain) error { s = dom.state(); return nil })
	return s, err
}

// Addresses implements driver.Driver.
func (d *Driver) Addresses(ctx context.Context, vm uuid.UUID) ([]nodeapi.Address, error) {
	var list []nodeapi.Address
	err := d.ask(ctx, "Addresses", vm, func(dom *domain) error {
		if isOn(dom) {
			list = slices.Clone(dom.addresses)
		}
		return nil
	})
	return list, err
}

// ReleaseLeases implements driver.Driver.
func (d *Driver) ReleaseLeases(ctx context.Context, vm uuid.UUID) error {
	return d.domain(ctx, "ReleaseLeases", vm, func(*domain) error { return nil })
}

// OpenConsole implements driver.Driver. The guest behind it echoes what it gets.
func (d *Driver) OpenConsole(ctx context.Context, vm uuid.UUID) (io.ReadWriteCloser, error) {
	var c *console
	err := d.domain(ctx, "OpenConsole", vm, func(dom *domain) error {
		if !isOn(dom) {
			return nodeapi.ErrHypervisorRefused
		}
		if dom.console != nil {
			dom.console.end()
		}
		c = newConsole()
		dom.console = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}
