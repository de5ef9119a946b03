package libvirt

import (
	"context"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// Info implements driver.Driver.
func (d *Driver) Info(ctx context.Context) (driver.Info, error) {
	return ask(ctx, d, "ask for the host", func(c *libvirt.Connect) (driver.Info, error) {
		// Guests run by QEMU are of the type "kvm" to the rest of NovaCron, however they are accelerated.
		info := driver.Info{Accelerator: string(d.accel), Hypervisors: []string{"kvm"}}
		var err error
		if info.Hostname, err = c.GetHostname(); err != nil {
			return info, err
		}
		kind, err := c.GetType()
		if err != nil {
			return info, err
		}
		hypervisor, err := c.GetVersion()
		if err != nil {
			return info, err
		}
		library, err := c.GetLibVersion()
		if err != nil {
			return info, err
		}
		info.Version = fmt.Sprintf("%s %s, libvirt %s", kind, version(hypervisor), version(library))
		node, err := c.GetNodeInfo()
		if err != nil {
			return info, err
		}
		info.Architecture, info.CPUModel = node.Model, node.Model
		text, err := c.GetCapabilities()
		if err != nil {
			return info, err
		}
		var caps libvirtxml.Caps
		if err := caps.Unmarshal(text); err != nil {
			return info, err
		}
		if cpu := caps.Host.CPU; cpu != nil {
			if cpu.Arch != "" {
				info.Architecture = cpu.Arch
			}
			if cpu.Model != "" {
				info.CPUModel = strings.TrimSpace(cpu.Vendor + " " + cpu.Model)
			}
		}
		return info, nil
	})
}

// version decodes libvirt's form of a version: major*1,000,000 + minor*1,000 + release.
func version(v uint32) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1_000%1_000, v%1_000)
}
