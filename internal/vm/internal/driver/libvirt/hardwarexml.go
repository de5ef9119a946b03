package libvirt

import (
	"fmt"
	"slices"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// The modes of a processor that are no models.
const (
	hostModel       = "host-model"
	hostPassthrough = "host-passthrough"
)

// addHardware puts what the owner chose into a domain that is otherwise complete.
func addHardware(dom *libvirtxml.Domain, def driver.DomainDef) {
	hw := def.Hardware
	dom.Title = def.Name
	dom.VCPU = &libvirtxml.DomainVCPU{Placement: "static", Current: uint(def.VCPUs), Value: uint(driver.MaxVCPUs(def.VCPUs, hw))}
	switch hw.CPUModel {
	case "":
	case hostPassthrough:
		dom.CPU = &libvirtxml.DomainCPU{Mode: hostPassthrough, Check: "none", Migratable: "on"}
	case hostModel:
		dom.CPU = &libvirtxml.DomainCPU{Mode: hostModel, Check: "partial"}
	default:
		dom.CPU = &libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Check: "none",
			Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: hw.CPUModel}}
	}
	if hw.Sockets*hw.Cores*hw.Threads > 0 {
		dom.CPU.Topology = &libvirtxml.DomainCPUTopology{Sockets: hw.Sockets, Dies: 1, Cores: hw.Cores, Threads: hw.Threads}
	}
	if most := driver.MaxMemory(def.MemoryBytes); most > def.MemoryBytes {
		// Memory can only be plugged into a NUMA node (libvirt 9.0.0, qemuDomainDefValidateMemoryHotplug).
		dom.MaximumMemory = &libvirtxml.DomainMaxMemory{Value: uint(most / 1024), Unit: "KiB", Slots: driver.MemorySlots}
		dom.CPU.Numa = &libvirtxml.DomainNuma{Cell: []libvirtxml.DomainCell{{
			ID: new(uint), CPUs: fmt.Sprintf("0-%d", dom.VCPU.Value-1), Memory: uint(def.MemoryBytes / 1024), Unit: "KiB"}}}
	}
	if hw.Watchdog != "" {
		dom.Devices.Watchdogs = []libvirtxml.DomainWatchdog{{Model: hw.Watchdog, Action: hw.WatchdogAction}}
	}
	writable := slices.Concat(def.Disks, def.Volumes)
	chosen := def.NetworkBoot > 0 || def.DriveBoot > 0 || slices.ContainsFunc(writable, func(d driver.Disk) bool { return d.Boot > 0 })
	for i := range dom.Devices.Disks {
		disk := &dom.Devices.Disks[i]
		at := slices.IndexFunc(writable, func(d driver.Disk) bool { return d.Path == pathOf(*disk) })
		if chosen {
			disk.Boot = nil
		}
		if disk.Device == "cdrom" && def.DriveBoot > 0 {
			disk.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(def.DriveBoot)}
		}
		if at < 0 {
			continue
		}
		if chosen && writable[at].Boot > 0 {
			disk.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(writable[at].Boot)}
		}
		disk.IOTune = tuneOf(writable[at].Limits)
	}
	if def.NetworkBoot > 0 && len(dom.Devices.Interfaces) > 0 {
		dom.Devices.Interfaces[0].Boot = &libvirtxml.DomainDeviceBoot{Order: uint(def.NetworkBoot)}
	}
}

func tuneOf(l nodeapi.IOLimits) *libvirtxml.DomainDiskIOTune {
	if l == (nodeapi.IOLimits{}) {
		return nil
	}
	return &libvirtxml.DomainDiskIOTune{ReadIopsSec: uint64(l.ReadIOPS), WriteIopsSec: uint64(l.WriteIOPS),
		ReadBytesSec: uint64(l.ReadBPS), WriteBytesSec: uint64(l.WriteBPS)}
}

// checkHardware refuses what libvirt would refuse only when the guest is to start.
func checkHardware(c *libvirt.Connect, hw nodeapi.Hardware, accel Accel) error {
	switch hw.CPUModel {
	case "", hostModel:
		return nil
	case hostPassthrough:
		if accel != AccelKVM {
			return nodeapi.ErrHardware.WithMessage("the node has no hardware virtualisation, so it cannot pass its processor through")
		}
		return nil
	}
	models, err := c.GetCPUModelNames("x86_64", 0)
	if err != nil {
		return err
	}
	if !slices.Contains(models, hw.CPUModel) {
		return nodeapi.ErrHardware.WithMessage("the node knows no processor model %q", hw.CPUModel)
	}
	return nil
}
