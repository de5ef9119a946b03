package libvirt

import (
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Facts about the choices below:
//   - cache=writeback keeps pages of a base image once for all guests that use it, honours the guest's flushes, and works on every
//     file system (cache=none needs O_DIRECT, which tmpfs and some overlays lack).
//   - the seed is a read-only virtio disk and no disc in the drive: NoCloud finds it by its volume label, and kernels made for clouds often
//     have no driver for SATA drives.
//   - the base image keeps its own owner (relabel=no): QEMU of one guest must never get the right to write what others boot from.
//   - the display listens on a unix socket that libvirt makes for each guest and that only root and QEMU can open. Standard VGA is what firmware,
//     installers and every kernel show something on without a driver of their own; a tablet makes the pointer land where the viewer's is.
const (
	machine     = "q35"
	tcgCPUModel = "Nehalem" // see cpuOf
	driverName  = "qemu"
	agentName   = "org.qemu.guest_agent.0"
	seedSerial  = "nova-seed"
	// rootPorts is how many devices a guest can have on the PCI bus, those included that are plugged in while it runs. libvirt keeps no
	// more than one free by itself (9.0.0). 28 of them cost a guest no measurable time to boot.
	rootPorts = 24
	// videoKiB is the memory of the display: enough for 1920x1080 twice.
	videoKiB = 16 << 10
)

// domainXML makes the document that defines a domain.
func domainXML(def driver.DomainDef, accel Accel) (string, error) {
	metadata, err := writeMetadata(domainMetadata{
		Installation: def.InstallationID, VM: def.VMID, Tenant: def.TenantID, Name: def.Name, Generation: def.Generation, Autostart: def.Autostart,
	})
	if err != nil {
		return "", err
	}
	interfaces, err := interfacesOf(def.NICs)
	if err != nil {
		return "", err
	}
	dom := libvirtxml.Domain{
		Type:       domainType(accel),
		Name:       driver.NamePrefix + def.VMID.String(),
		UUID:       def.VMID.String(),
		Metadata:   &libvirtxml.DomainMetadata{XML: metadata},
		Memory:     &libvirtxml.DomainMemory{Value: uint(def.MemoryBytes / 1024), Unit: "KiB"},
		OS:         &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: machine, Type: "hvm"}},
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}},
		CPU:        cpuOf(accel),
		Clock:      clockOf(accel),
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Disks:       disksOf(def),
			Controllers: rootPortsOf(rootPorts),
			Interfaces:  interfaces,
			Serials: []libvirtxml.DomainSerial{{
				Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
				Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: new(uint)},
				Log:    &libvirtxml.DomainChardevLog{File: def.ConsoleLog, Append: "on"},
			}},
			Channels: []libvirtxml.DomainChannel{{
				Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
				Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: agentName}},
			}},
			Graphics: []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{SharePolicy: "force-shared",
				Listeners: []libvirtxml.DomainGraphicListener{{Socket: &libvirtxml.DomainGraphicListenerSocket{}}}}}},
			Videos: []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga", VRam: videoKiB, Heads: 1, Primary: "yes"}}},
			Inputs: []libvirtxml.DomainInput{{Type: "tablet", Bus: "usb"}},
			RNGs: []libvirtxml.DomainRNG{{
				Model:   "virtio",
				Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
			}},
			MemBalloon: &libvirtxml.DomainMemBalloon{
				Model: "virtio", Stats: &libvirtxml.DomainMemBalloonStats{Period: 10}, FreePageReporting: "on",
			},
		},
	}
	dom.OS.Kernel, dom.OS.Initrd, dom.OS.Cmdline = def.Kernel, def.Initrd, def.CommandLine
	addHardware(&dom, def)
	xml, err := dom.Marshal()
	if err != nil {
		return "", fmt.Errorf("encode domain: %w", err)
	}
	return xml, nil
}

func domainType(accel Accel) string {
	if accel == AccelKVM {
		return "kvm"
	}
	return "qemu"
}

// cpuOf gives the guest the host's processor under KVM. Emulated, it gets the oldest model that today's distributions still boot on
// (x86-64-v2). A named model means the same on every host and version of QEMU, unlike "max", so that guests can move; a small guest
// boots on qemu64, Nehalem and max in the same time (3.3 to 3.8 s, QEMU 7.2).
func cpuOf(accel Accel) *libvirtxml.DomainCPU {
	if accel == AccelKVM {
		return &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none", Migratable: "on"}
	}
	return &libvirtxml.DomainCPU{
		Mode: "custom", Match: "exact", Check: "none",
		Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: tcgCPUModel},
	}
}

// clockOf drops the timers that guests under KVM had better not use.
func clockOf(accel Accel) *libvirtxml.DomainClock {
	clock := &libvirtxml.DomainClock{Offset: "utc"}
	if accel == AccelKVM {
		clock.Timer = []libvirtxml.DomainTimer{
			{Name: "rtc", TickPolicy: "catchup"}, {Name: "pit", TickPolicy: "delay"}, {Name: "hpet", Present: "no"},
		}
	}
	return clock
}

func disksOf(def driver.DomainDef) []libvirtxml.DomainDisk {
	var disks []libvirtxml.DomainDisk
	for i, d := range def.Disks {
		disk := volumeDisk(i, d)
		disk.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(i + 1)}
		disks = append(disks, disk)
	}
	if def.SeedPath != "" {
		seed := virtioDisk(len(def.Disks), &libvirtxml.DomainDiskDriver{Name: driverName, Type: "raw"}, def.SeedPath)
		seed.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
		seed.Serial = seedSerial
		disks = append(disks, seed)
	}
	for i, d := range def.Volumes { // behind the seed, whether there is one or not, so that they keep their places
		disks = append(disks, volumeDisk(len(def.Disks)+1+i, d))
	}
	if def.Drive {
		drive := driveOf(def.Disc)
		drive.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(len(def.Disks) + 1)}
		disks = append(disks, drive)
	}
	return disks
}

const driveTarget = "sda"

// driveOf makes the drive with a disc in it, or empty. The disc keeps its owner: several guests read the same file.
func driveOf(disc string) libvirtxml.DomainDisk {
	drive := libvirtxml.DomainDisk{Device: "cdrom", Driver: &libvirtxml.DomainDiskDriver{Name: driverName, Type: "raw"},
		Target: &libvirtxml.DomainDiskTarget{Dev: driveTarget, Bus: "sata"}, ReadOnly: &libvirtxml.DomainDiskReadOnly{}}
	if disc != "" {
		drive.Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{
			File: disc, SecLabel: []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}}}}
	}
	return drive
}

// volumeDisk makes a writable disk.
func volumeDisk(i int, d driver.Disk) libvirtxml.DomainDisk {
	format := d.Format
	if format == "" {
		format = "qcow2"
	}
	disk := virtioDisk(i, &libvirtxml.DomainDiskDriver{
		Name: driverName, Type: format, Cache: "writeback", Discard: "unmap", DetectZeros: "unmap",
	}, d.Path)
	disk.Serial = d.Serial
	// An explicit chain keeps QEMU and libvirt from probing what a guest may have written into its disk.
	disk.BackingStore = &libvirtxml.DomainDiskBackingStore{}
	if d.Backing != "" {
		disk.BackingStore = &libvirtxml.DomainDiskBackingStore{
			Format: &libvirtxml.DomainDiskFormat{Type: "qcow2"},
			Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{
				File: d.Backing, SecLabel: []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}},
			}},
			BackingStore: &libvirtxml.DomainDiskBackingStore{},
		}
	}
	return disk
}

// rootPortsOf makes so many places on the PCI bus.
func rootPortsOf(n int) []libvirtxml.DomainController {
	ports := make([]libvirtxml.DomainController, n)
	for i := range ports {
		index := uint(i + 1) // 0 is the root itself
		ports[i] = libvirtxml.DomainController{Type: "pci", Index: &index, Model: "pcie-root-port"}
	}
	return ports
}

func virtioDisk(i int, drv *libvirtxml.DomainDiskDriver, path string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device: "disk", Driver: drv,
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: diskName(i), Bus: "virtio"},
	}
}

// diskName counts vda … vdz, vdaa ….
func diskName(i int) string {
	name := ""
	for ; i >= 0; i = i/26 - 1 {
		name = string(rune('a'+i%26)) + name
	}
	return "vd" + name
}

// interfacesOf names the device of each interface on the host by its MAC, so that its filters are known before it is there.
func interfacesOf(nics []nodeapi.NIC) ([]libvirtxml.DomainInterface, error) {
	var interfaces []libvirtxml.DomainInterface
	for _, nic := range nics {
		tap, err := nodeapi.TapName(nic.MAC)
		if err != nil {
			return nil, err
		}
		device := libvirtxml.DomainInterface{
			MAC: &libvirtxml.DomainInterfaceMAC{Address: nic.MAC},
			Source: &libvirtxml.DomainInterfaceSource{
				Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: driver.NamePrefix + nic.NetworkID.String()},
			},
			Target: &libvirtxml.DomainInterfaceTarget{Dev: tap},
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		}
		if nic.Down {
			device.Link = linkOf(nic)
		}
		interfaces = append(interfaces, device)
	}
	return interfaces, nil
}
