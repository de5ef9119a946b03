package node

import (
	"context"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// giveHardware fills in what the owner of a virtual machine chose for its disks and interfaces.
func giveHardware(def *driver.DomainDef, spec nodeapi.DomainSpec) {
	def.Hardware, def.Autostart = spec.Hardware, spec.Autostart
	place := make(map[string]int, len(spec.Hardware.Boot))
	for i, name := range spec.Hardware.Boot {
		place[name] = i + 1
	}
	def.NetworkBoot = place[nodeapi.BootNetwork]
	for i, name := range spec.Disks {
		def.Disks[i].Boot, def.Disks[i].Limits = place[name], spec.Hardware.Limits[name]
	}
	for i, v := range spec.Volumes {
		def.Volumes[i].Boot, def.Volumes[i].Limits = place[v.ID.String()], spec.Hardware.Limits[v.ID.String()]
	}
}

func (n *Node) suspend(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Status, error) {
	return n.act(ctx, c.VMID, n.cfg.Driver.Save)
}

func (n *Node) resize(ctx context.Context, c nodeapi.Command, req nodeapi.Resize) (nodeapi.Resized, error) {
	if req.VCPUs <= 0 || req.MemoryBytes <= 0 {
		return nodeapi.Resized{}, nodeapi.ErrInvalidCommand.WithMessage("%d vCPUs and %d bytes of memory make no virtual machine",
			req.VCPUs, req.MemoryBytes)
	}
	now, on, err := n.cfg.Driver.Resize(ctx, c.VMID, driver.Size{VCPUs: req.VCPUs, MemoryBytes: req.MemoryBytes})
	if err != nil {
		return nodeapi.Resized{}, err
	}
	if on {
		n.onlineMemory(c.VMID, now.MemoryBytes)
	}
	status, err := n.status(ctx, c.VMID)
	return nodeapi.Resized{Status: status, On: on, VCPUs: now.VCPUs, MemoryBytes: now.MemoryBytes}, err
}

func (n *Node) tune(ctx context.Context, c nodeapi.Command, req nodeapi.Tune) (nodeapi.Status, error) {
	limits := make(map[string]nodeapi.IOLimits, len(req.Disks)+len(req.Volumes))
	for _, name := range req.Disks {
		path, _, err := n.store.DiskAndBacking(c.VMID, name)
		if err != nil {
			return nodeapi.Status{}, err
		}
		limits[path] = req.Limits[name]
	}
	volumes, err := n.volumeDisks(req.Volumes)
	if err != nil {
		return nodeapi.Status{}, err
	}
	for i, disk := range volumes {
		limits[disk.Path] = req.Limits[req.Volumes[i].ID.String()]
	}
	if err := n.cfg.Driver.Tune(ctx, c.VMID, req.Name, limits); err != nil {
		return nodeapi.Status{}, err
	}
	if err := n.changeDisc(ctx, c, req.Media); err != nil {
		return nodeapi.Status{}, err
	}
	return n.status(ctx, c.VMID)
}
