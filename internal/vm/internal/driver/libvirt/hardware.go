package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Save implements driver.Driver.
func (d *Driver) Save(ctx context.Context, vm uuid.UUID) error {
	err := d.change(ctx, "save the virtual machine to disk", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			return d.unless(dom, vm, isOff, func() error {
				aborted := make(chan struct{})
				stop := context.AfterFunc(ctx, func() {
					defer close(aborted)
					_ = dom.AbortJob() // it has ended meanwhile, or not begun; then the next command waits for it
				})
				err := dom.ManagedSave(0)
				if !stop() {
					<-aborted
				}
				return err
			})
		})
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// DropSaved implements driver.Driver.
func (d *Driver) DropSaved(ctx context.Context, vm uuid.UUID) error {
	return d.change(ctx, "forget the saved memory", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			saved, err := dom.HasManagedSaveImage(0)
			if err != nil || !saved {
				return err
			}
			if err := dom.ManagedSaveRemove(0); err != nil {
				return err
			}
			d.queue.push(rawEvent{driver: d, look: true, vm: vm, at: time.Now()}) // libvirt tells nobody
			return nil
		})
	})
}

// balloonPatience is how long a guest may take to give memory back, or to take it, before that is left to its next start.
const balloonPatience = 5 * time.Second

// refusals are the ways in which libvirt and QEMU say that a guest cannot change while it runs. QEMU's own words come as internal errors.
var refusals = []libvirt.ErrorNumber{libvirt.ERR_OPERATION_INVALID, libvirt.ERR_OPERATION_FAILED, libvirt.ERR_OPERATION_UNSUPPORTED,
	libvirt.ERR_CONFIG_UNSUPPORTED, libvirt.ERR_INTERNAL_ERROR, libvirt.ERR_OPERATION_TIMEOUT, libvirt.ERR_INVALID_ARG, libvirt.ERR_NO_SUPPORT}

func unlessRefused(err error) error {
	if isCode(err, refusals...) {
		return nil
	}
	return err
}

// Resize implements driver.Driver.
func (d *Driver) Resize(ctx context.Context, vm uuid.UUID, size driver.Size) (now driver.Size, on bool, err error) {
	err = d.change(ctx, "resize the virtual machine", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			state, _, err := dom.GetState()
			if err != nil || isOff(state) {
				return err
			}
			on = true
			if now.VCPUs, err = resizeVCPUs(dom, size.VCPUs); err != nil {
				return err
			}
			now.MemoryBytes, err = resizeMemory(ctx, dom, size.MemoryBytes, isRunning(state))
			return err
		})
	})
	return now, on, err
}

func resizeVCPUs(dom *libvirt.Domain, want int) (int, error) {
	have, err := dom.GetVcpusFlags(libvirt.DOMAIN_VCPU_LIVE)
	if err != nil {
		return 0, err
	}
	most, err := dom.GetVcpusFlags(libvirt.DOMAIN_VCPU_LIVE | libvirt.DOMAIN_VCPU_MAXIMUM)
	if err != nil || int(have) == want || want > int(most) {
		return int(have), err
	}
	if err := unlessRefused(dom.SetVcpusFlags(uint(want), libvirt.DOMAIN_VCPU_LIVE)); err != nil {
		return 0, err
	}
	have, err = dom.GetVcpusFlags(libvirt.DOMAIN_VCPU_LIVE)
	return int(have), err
}

// resizeMemory plugs memory in, in blocks, where more is wanted than the guest has of it and there is a place for it, and else inflates or deflates the
// balloon.
func resizeMemory(ctx context.Context, dom *libvirt.Domain, bytes int64, running bool) (int64, error) {
	info, err := dom.GetInfo()
	if err != nil {
		return 0, err
	}
	want := uint64(bytes / 1024)
	if !running || want <= info.MaxMem {
		return balloonTo(ctx, dom, info, want, running)
	}
	most, err := maxMemory(dom)
	if err != nil {
		return 0, err
	}
	if want = min(want, most); want <= info.MaxMem {
		return int64(info.Memory) * 1024, nil
	}
	if info.Memory < info.MaxMem {
		if now, err := balloonTo(ctx, dom, info, info.MaxMem, running); err != nil || uint64(now/1024) < info.MaxMem {
			return now, err
		}
	}
	if err := plugMemory(dom, want-info.MaxMem); err != nil {
		return 0, err
	}
	if info, err = dom.GetInfo(); err != nil {
		return 0, err
	}
	return int64(info.Memory) * 1024, nil
}

// maxMemory is how much memory a guest that is on has places for, in KiB; 0 for one that was powered on without any, which libvirt gives nothing to plug into
// (driver.MaxMemory says which those are, but the guest may be older than that).
func maxMemory(dom *libvirt.Domain) (uint64, error) {
	def, err := definition(dom, 0)
	if err != nil || def.MaximumMemory == nil {
		return 0, err
	}
	return uint64(def.MaximumMemory.Value), nil // libvirt always tells it in KiB
}

// plugMemory adds as many whole blocks as go into so many KiB. Persistent definitions have their size as plain memory, so this is gone, and counted there, when
// the guest is powered on from off.
func plugMemory(dom *libvirt.Domain, kib uint64) error {
	const block = driver.MemoryBlock / 1024
	kib -= kib % block
	if kib == 0 {
		return nil
	}
	module := libvirtxml.DomainMemorydev{Model: "dimm", Target: &libvirtxml.DomainMemorydevTarget{
		Size: &libvirtxml.DomainMemorydevTargetSize{Value: uint(kib), Unit: "KiB"}, Node: &libvirtxml.DomainMemorydevTargetNode{}}}
	xml, err := module.Marshal()
	if err != nil {
		return fmt.Errorf("encode the memory: %w", err)
	}
	return unlessRefused(dom.AttachDeviceFlags(xml, libvirt.DOMAIN_DEVICE_MODIFY_LIVE))
}

// balloonTo inflates or deflates the balloon. A guest that does not follow gets back what it had, so that what is told is what it has.
func balloonTo(ctx context.Context, dom *libvirt.Domain, info *libvirt.DomainInfo, want uint64, running bool) (int64, error) {
	before, bytes := info.Memory, int64(want)*1024
	if !running || want == before {
		return int64(before) * 1024, nil
	}
	if err := unlessRefused(dom.SetMemoryFlags(want, libvirt.DOMAIN_MEM_LIVE)); err != nil {
		return 0, err
	}
	end := time.NewTimer(balloonPatience)
	defer end.Stop()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		info, err := dom.GetInfo()
		if err != nil {
			return 0, err
		}
		if info.Memory == want {
			return bytes, nil
		}
		select {
		case <-look.C:
			continue
		case <-end.C:
		case <-ctx.Done():
		}
		if err := unlessRefused(dom.SetMemoryFlags(before, libvirt.DOMAIN_MEM_LIVE)); err != nil {
			return 0, err
		}
		return int64(before) * 1024, nil
	}
}

// Tune implements driver.Driver.
func (d *Driver) Tune(ctx context.Context, vm uuid.UUID, name string, limits map[string]nodeapi.IOLimits) error {
	return d.change(ctx, "change the running virtual machine", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			state, _, err := dom.GetState()
			if err != nil || isOff(state) {
				return err
			}
			if err := dom.SetMetadata(libvirt.DOMAIN_METADATA_TITLE, name, "", "", libvirt.DOMAIN_AFFECT_LIVE); err != nil {
				return err
			}
			def, err := definition(dom, 0)
			if err != nil {
				return err
			}
			for _, disk := range def.Devices.Disks {
				l, ok := limits[pathOf(disk)]
				if !ok || disk.Target == nil {
					continue
				}
				if err := dom.SetBlockIoTune(disk.Target.Dev, &libvirt.DomainBlockIoTuneParameters{
					ReadIopsSecSet: true, ReadIopsSec: uint64(l.ReadIOPS), WriteIopsSecSet: true, WriteIopsSec: uint64(l.WriteIOPS),
					ReadBytesSecSet: true, ReadBytesSec: uint64(l.ReadBPS), WriteBytesSecSet: true, WriteBytesSec: uint64(l.WriteBPS),
				}, libvirt.DOMAIN_AFFECT_LIVE); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// SetDisc implements driver.Driver.
func (d *Driver) SetDisc(ctx context.Context, id uuid.UUID, path string) error {
	return d.change(ctx, "change the disc", func(c *libvirt.Connect) error {
		return domain(c, id, func(dom *libvirt.Domain) error {
			state, _, err := dom.GetState()
			if err != nil || isOff(state) {
				return err
			}
			def, err := definition(dom, 0)
			if err != nil {
				return err
			}
			at := slices.IndexFunc(def.Devices.Disks, func(disk libvirtxml.DomainDisk) bool { return disk.Device == "cdrom" })
			if at < 0 || pathOf(def.Devices.Disks[at]) == path {
				return nil
			}
			drive := driveOf(path)
			xml, err := drive.Marshal()
			if err != nil {
				return fmt.Errorf("encode the drive: %w", err)
			}
			err = dom.UpdateDeviceFlags(xml, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
			// libvirt waits a while for the guest to open a locked tray and says so in words only (9.0.0, qemuHotplugWaitForTrayEject).
			if err != nil && strings.Contains(err.Error(), "tray") {
				return vm.ErrCDROMHeld.Wrap(err)
			}
			return err
		})
	})
}
