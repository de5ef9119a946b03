package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// facts is what a domain's definition says and no event changes.
type facts struct {
	installation uuid.UUID
	generation   int64
	macs         []string
	autostart    int
}

// Define implements driver.Driver.
func (d *Driver) Define(ctx context.Context, def driver.DomainDef) error {
	xml, err := domainXML(def, d.accel)
	if err != nil {
		return err
	}
	return d.change(ctx, "define the virtual machine", func(c *libvirt.Connect) error {
		if err := checkHardware(c, def.Hardware, d.accel); err != nil {
			return err
		}
		dom, err := c.DomainDefineXMLFlags(xml, libvirt.DOMAIN_DEFINE_VALIDATE)
		if err != nil {
			return err
		}
		d.forget(def.VMID)
		return dom.Free()
	})
}

// domain looks a managed domain up and hands it to f.
func domain(c *libvirt.Connect, vm uuid.UUID, f func(*libvirt.Domain) error) error {
	dom, err := c.LookupDomainByUUIDString(vm.String())
	if err != nil {
		return err
	}
	defer dom.Free() // fails only on a nil pointer
	if _, ok := managedID(dom); !ok {
		return nodeapi.ErrNotDefined // a foreign domain that happens to have the id
	}
	return f(dom)
}

// unless runs f, and takes its refusal for success when the domain is in the wanted state anyway. Its state is told then as if by an
// event: libvirt sends none for a guest that it gives up while it finds its guests again after its own restart, which is what a
// destroy at that moment leads to (9.0.0).
func (d *Driver) unless(dom *libvirt.Domain, vm uuid.UUID, wanted func(libvirt.DomainState) bool, f func() error) error {
	state, _, err := dom.GetState()
	if err != nil {
		return err
	}
	if wanted(state) {
		return nil
	}
	err = f()
	if !isCode(err, libvirt.ERR_OPERATION_INVALID) {
		return err
	}
	if state, _, stateErr := dom.GetState(); stateErr == nil && wanted(state) {
		d.queue.push(rawEvent{driver: d, look: true, vm: vm, at: time.Now()})
		return nil
	}
	return err
}

func isOff(s libvirt.DomainState) bool {
	return s == libvirt.DOMAIN_SHUTOFF || s == libvirt.DOMAIN_CRASHED || s == libvirt.DOMAIN_NOSTATE
}
func isOn(s libvirt.DomainState) bool     { return !isOff(s) }
func isPaused(s libvirt.DomainState) bool { return s == libvirt.DOMAIN_PAUSED }
func isRunning(s libvirt.DomainState) bool {
	return s == libvirt.DOMAIN_RUNNING || s == libvirt.DOMAIN_BLOCKED
}

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, vm uuid.UUID) error {
	return d.change(ctx, "start the virtual machine", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error { return d.unless(dom, vm, isOn, dom.Create) })
	})
}

// Shutdown implements driver.Driver.
func (d *Driver) Shutdown(ctx context.Context, vm uuid.UUID) error {
	return d.change(ctx, "shut the virtual machine down", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			// The power button only: asking the guest agent as well would wait for one that hangs.
			return d.unless(dom, vm, isOff, func() error { return dom.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN) })
		})
	})
}

// Destroy implements driver.Driver.
func (d *Driver) Destroy(ctx context.Context, vm uuid.UUID) error {
	return d.change(ctx, "power the virtual machine off", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error { return d.unless(dom, vm, isOff, dom.Destroy) })
	})
}

// Reset implements driver.Driver.
func (d *Driver) Reset(ctx context.Context, vm uuid.UUID) error {
	return d.change(ctx, "reset the virtual machine", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error { return dom.Reset(0) })
	})
}

// Suspend implements driver.Driver.
func (d *Driver) Suspend(ctx context.Context, vm uuid.UUID) error {
	return d.change(ctx, "pause the virtual machine", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error { return d.unless(dom, vm, isPaused, dom.Suspend) })
	})
}

// Resume implements driver.Driver.
func (d *Driver) Resume(ctx context.Context, vm uuid.UUID) error {
	return d.change(ctx, "resume the virtual machine", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			return d.unless(dom, vm, isRunning, func() error {
				if state, _, err := dom.GetState(); err == nil && state == libvirt.DOMAIN_PMSUSPENDED {
					return dom.PMWakeup(0)
				}
				return dom.Resume()
			})
		})
	})
}

// undefineFlags removes all that libvirt itself keeps of a domain.
const undefineFlags = libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.DOMAIN_UNDEFINE_NVRAM |
	libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA

// Undefine implements driver.Driver.
func (d *Driver) Undefine(ctx context.Context, vm uuid.UUID) error {
	return d.change(ctx, "forget the virtual machine", func(c *libvirt.Connect) error {
		err := domain(c, vm, func(dom *libvirt.Domain) error {
			err := dom.UndefineFlags(undefineFlags)
			if isCode(err, libvirt.ERR_INVALID_ARG, libvirt.ERR_NO_SUPPORT) { // drivers that know none of the flags
				err = dom.Undefine()
			}
			return err
		})
		d.forget(vm)
		if isCode(err, libvirt.ERR_NO_DOMAIN) || errors.Is(err, nodeapi.ErrNotDefined) {
			return nil
		}
		return err
	})
}

// Definition implements driver.Driver.
func (d *Driver) Definition(ctx context.Context, vm uuid.UUID) (string, error) {
	return ask(ctx, d, "ask for the definition of the virtual machine", func(c *libvirt.Connect) (text string, err error) {
		version, err := c.GetLibVersion()
		if err != nil {
			return "", err
		}
		err = domain(c, vm, func(dom *libvirt.Domain) error {
			body, err := dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
			text = fmt.Sprintf("<!-- libvirt %d -->\n%s", version, body)
			return err
		})
		return text, err
	})
}

// Status implements driver.Driver.
func (d *Driver) Status(ctx context.Context, vm uuid.UUID) (driver.DomainState, error) {
	return ask(ctx, d, "ask for the virtual machine", func(c *libvirt.Connect) (driver.DomainState, error) {
		var state driver.DomainState
		err := domain(c, vm, func(dom *libvirt.Domain) (err error) {
			state, err = d.read(dom, vm)
			return err
		})
		return state, err
	})
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.DomainState, error) {
	return ask(ctx, d, "list the virtual machines", func(c *libvirt.Connect) ([]driver.DomainState, error) {
		doms, err := c.ListAllDomains(0)
		if err != nil {
			return nil, err
		}
		defer func() {
			for i := range doms {
				_ = doms[i].Free()
			}
		}()
		var states []driver.DomainState
		for i := range doms {
			id, ok := managedID(&doms[i])
			if !ok {
				continue
			}
			state, err := d.read(&doms[i], id)
			if isCode(err, libvirt.ERR_NO_DOMAIN) || errors.Is(err, nodeapi.ErrNotDefined) {
				continue // gone since it was listed, or not ours after all
			}
			if err != nil {
				return nil, err
			}
			states = append(states, state)
		}
		return states, nil
	})
}

// read asks for a domain's state, and for its definition where that is not known yet.
func (d *Driver) read(dom *libvirt.Domain, id uuid.UUID) (driver.DomainState, error) {
	state, reason, err := dom.GetState()
	if err != nil {
		return driver.DomainState{}, err
	}
	f, err := d.factsOf(dom, id)
	if err != nil {
		return driver.DomainState{}, err
	}
	s := driver.DomainState{VMID: id, InstallationID: f.installation, Generation: f.generation, MACs: f.macs}
	s.Autostart = f.autostart
	s.Observed, s.Reason = stateOf(state, reason)
	if s.Observed == nodeapi.ObservedStopped {
		s.Saved, err = dom.HasManagedSaveImage(0)
		if isCode(err, libvirt.ERR_NO_SUPPORT) { // drivers that cannot save
			err = nil
		}
		return s, err
	}
	if s.Observed == nodeapi.ObservedRunning || s.Observed == nodeapi.ObservedPaused {
		s.Boot = bootOf(dom)
	}
	return s, nil
}

// bootOf tells the number of a domain that is on, a new one each time that one comes on. libvirt counts on from the highest that it finds in use
// when it starts (virDomainGetID; qemuDomainFindMaxID in its source). No question is sent: the number came with the domain.
func bootOf(dom *libvirt.Domain) string {
	id, err := dom.GetID()
	if err != nil { // it is off
		return ""
	}
	return strconv.FormatUint(uint64(id), 10)
}

func (d *Driver) factsOf(dom *libvirt.Domain, id uuid.UUID) (facts, error) {
	d.mu.Lock()
	f, ok := d.facts[id]
	defs := d.defs
	d.mu.Unlock()
	if ok {
		return f, nil
	}
	text, err := dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return facts{}, err
	}
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		return facts{}, err
	}
	if def.Metadata == nil {
		return facts{}, nodeapi.ErrNotDefined
	}
	meta, ok := readMetadata[domainMetadata](def.Metadata.XML, "domain")
	if !ok || meta.VM != id {
		return facts{}, nodeapi.ErrNotDefined
	}
	f = facts{installation: meta.Installation, generation: meta.Generation, autostart: meta.Autostart}
	if def.Devices != nil {
		for _, i := range def.Devices.Interfaces {
			if i.MAC != nil {
				f.macs = append(f.macs, i.MAC.Address)
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.defs == defs {
		d.facts[id] = f
	}
	return f, nil
}
