package node

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// ensureMedia puts cached images at the hand of a virtual machine.
func (n *Node) ensureMedia(_ context.Context, c nodeapi.Command, req nodeapi.Media) (nodeapi.Empty, error) {
	for _, m := range []struct{ sha256, kind string }{
		{req.Disc, nodeapi.MediaISO}, {req.Kernel, nodeapi.MediaBoot}, {req.Initrd, nodeapi.MediaBoot},
	} {
		if m.sha256 == "" {
			continue
		}
		if err := n.store.EnsureMedia(c.VMID, m.sha256, m.kind); err != nil {
			return nodeapi.Empty{}, err
		}
	}
	return nodeapi.Empty{}, nil
}

// mediaPaths gives the paths of what a virtual machine has beside its disks; empty where it has none.
func (n *Node) mediaPaths(id uuid.UUID, m nodeapi.Media) (disc, kernel, initrd string, err error) {
	for _, part := range []struct {
		sha256, kind string
		to           *string
	}{{m.Disc, nodeapi.MediaISO, &disc}, {m.Kernel, nodeapi.MediaBoot, &kernel}, {m.Initrd, nodeapi.MediaBoot, &initrd}} {
		if part.sha256 == "" {
			continue
		}
		if *part.to, err = n.store.MediaPath(id, part.sha256, part.kind); err != nil {
			return "", "", "", err
		}
	}
	return disc, kernel, initrd, nil
}

// giveMedia fills in what a virtual machine reads beside its disks.
func (n *Node) giveMedia(def *driver.DomainDef, spec nodeapi.DomainSpec) (err error) {
	def.Drive, def.CommandLine = spec.Drive, spec.CommandLine
	for i, name := range spec.Hardware.Boot {
		if name == nodeapi.BootCDROM && spec.Drive {
			def.DriveBoot = i + 1
		}
	}
	def.Disc, def.Kernel, def.Initrd, err = n.mediaPaths(def.VMID, spec.Media)
	return err
}

// changeDisc puts a disc into the drive of a guest that is on, or takes it out, and lets go of what the virtual machine has no more.
func (n *Node) changeDisc(ctx context.Context, c nodeapi.Command, m nodeapi.Media) error {
	disc, kernel, initrd, err := n.mediaPaths(c.VMID, m)
	if err != nil {
		return err
	}
	if m.Drive {
		if err := n.cfg.Driver.SetDisc(ctx, c.VMID, disc); err != nil {
			return err
		}
	}
	return n.store.KeepMedia(c.VMID, []string{disc, kernel, initrd})
}
