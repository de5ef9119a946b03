package libvirt

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// definition reads the definition of a domain: that of the running guest with 0, the persistent one with DOMAIN_XML_INACTIVE.
func definition(dom *libvirt.Domain, flags libvirt.DomainXMLFlags) (*libvirtxml.Domain, error) {
	text, err := dom.GetXMLDesc(flags)
	if err != nil {
		return nil, err
	}
	def := &libvirtxml.Domain{}
	if err := def.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	if def.Devices == nil {
		def.Devices = &libvirtxml.DomainDeviceList{}
	}
	return def, nil
}

func pathOf(disk libvirtxml.DomainDisk) string {
	if disk.Source == nil || disk.Source.File == nil {
		return ""
	}
	return disk.Source.File.File
}

// AttachedDisks implements driver.Driver.
func (d *Driver) AttachedDisks(ctx context.Context, vm uuid.UUID) ([]string, error) {
	return ask(ctx, d, "list the disks", func(c *libvirt.Connect) ([]string, error) {
		paths := []string{}
		err := domain(c, vm, func(dom *libvirt.Domain) error {
			def, err := definition(dom, 0)
			if err != nil {
				return err
			}
			for _, disk := range def.Devices.Disks {
				if path := pathOf(disk); path != "" {
					paths = append(paths, path)
				}
			}
			return nil
		})
		return paths, err
	})
}

// AttachDisk implements driver.Driver.
func (d *Driver) AttachDisk(ctx context.Context, vm uuid.UUID, disk driver.Disk) error {
	return d.change(ctx, "attach the disk", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			def, err := definition(dom, 0)
			if err != nil {
				return err
			}
			taken := map[string]bool{}
			for _, have := range def.Devices.Disks {
				if pathOf(have) == disk.Path {
					return nil
				}
				if have.Target != nil {
					taken[have.Target.Dev] = true
				}
			}
			free := 0
			for taken[diskName(free)] {
				free++
			}
			device := volumeDisk(free, disk)
			xml, err := device.Marshal()
			if err != nil {
				return fmt.Errorf("encode the disk: %w", err)
			}
			return dom.AttachDeviceFlags(xml, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
		})
	})
}

// DetachDisk implements driver.Driver. libvirt answers at once; the guest decides when the disk is gone.
func (d *Driver) DetachDisk(ctx context.Context, vm uuid.UUID, path string) (gone bool, err error) {
	err = d.change(ctx, "detach the disk", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			state, _, err := dom.GetState()
			if err != nil {
				return err
			}
			if isOff(state) {
				gone = true
				return nil
			}
			def, err := definition(dom, 0)
			if err != nil {
				return err
			}
			at := slices.IndexFunc(def.Devices.Disks, func(have libvirtxml.DomainDisk) bool { return pathOf(have) == path })
			if at < 0 {
				gone = true
				return nil
			}
			err = dom.DetachDeviceAlias(def.Devices.Disks[at].Alias.Name, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
			// It is asked already, or it has gone between the look and the call; the next look tells.
			if isCode(err, libvirt.ERR_DEVICE_MISSING, libvirt.ERR_OPERATION_FAILED, libvirt.ERR_INTERNAL_ERROR) {
				return nil
			}
			return err
		})
	})
	return gone, err
}

// ResizeDisk implements driver.Driver.
func (d *Driver) ResizeDisk(ctx context.Context, vm uuid.UUID, path string, size int64) error {
	return d.change(ctx, "resize the disk", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			return dom.BlockResize(path, uint64(size), libvirt.DOMAIN_BLOCK_RESIZE_BYTES)
		})
	})
}
