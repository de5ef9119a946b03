package node

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func (n *Node) ensureVolume(ctx context.Context, c nodeapi.Command, req nodeapi.VolumeSpec) (nodeapi.FileUsage, error) {
	return n.store.EnsureVolume(ctx, c.VMID, req)
}

func (n *Node) growVolume(ctx context.Context, c nodeapi.Command, req nodeapi.VolumeSpec) (nodeapi.FileUsage, error) {
	return n.store.GrowVolume(ctx, c.VMID, req)
}

// cleanVolume removes snapshots of a virtual machine that is gone from a volume that outlives it.
func (n *Node) cleanVolume(ctx context.Context, c nodeapi.Command, req nodeapi.VolumeClean) (nodeapi.Empty, error) {
	path, _, err := n.store.VolumePath(nodeapi.Volume{ID: c.VMID, Format: req.Format})
	if err != nil || req.Format != "qcow2" {
		return nodeapi.Empty{}, nil //nolint:nilerr // what is lost, or can hold none, holds no snapshot
	}
	for _, id := range req.Snapshots {
		if err := n.store.DropSnapshot(ctx, path, id); err != nil {
			return nodeapi.Empty{}, err
		}
	}
	return nodeapi.Empty{}, nil
}

// removeVolume leaves a tombstone first, as the removal of a virtual machine does.
func (n *Node) removeVolume(_ context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Empty, error) {
	if err := n.journal.Bury(c.VMID, c.Generation, time.Now()); err != nil {
		return nodeapi.Empty{}, err
	}
	return nodeapi.Empty{}, n.store.RemoveVolume(c.VMID)
}

func (n *Node) listVolumes(context.Context, nodeapi.Command, nodeapi.Empty) (nodeapi.VolumeList, error) {
	volumes, err := n.store.Volumes()
	return nodeapi.VolumeList{Volumes: volumes}, err
}

// listDisks tells what the disks of a virtual machine take. What is missing is left out.
func (n *Node) listDisks(ctx context.Context, c nodeapi.Command, req nodeapi.DiskList) (nodeapi.DiskUsage, error) {
	usage := nodeapi.DiskUsage{Disks: []nodeapi.FileUsage{}}
	for _, name := range req.Disks {
		if u, err := n.store.DiskUsage(c.VMID, name); err == nil {
			usage.Disks = append(usage.Disks, u)
		}
	}
	for _, v := range req.Volumes {
		if u, err := n.store.VolumeUsage(v); err == nil {
			usage.Disks = append(usage.Disks, u)
		}
	}
	if c.VMID != uuid.Nil {
		connected, err := n.cfg.Driver.AgentConnected(ctx, c.VMID)
		usage.Agent = err == nil && connected
	}
	return usage, nil
}

// volumeDisk makes what the driver must know of a volume. Its serial number is its id, so that the guest can find it.
func (n *Node) volumeDisk(v nodeapi.Volume) (driver.Disk, error) {
	path, backing, err := n.store.VolumePath(v)
	return driver.Disk{Path: path, Backing: backing, Format: v.Format, Serial: v.ID.String()}, err
}

func (n *Node) volumeDisks(volumes []nodeapi.Volume) ([]driver.Disk, error) {
	var disks []driver.Disk
	for _, v := range volumes {
		disk, err := n.volumeDisk(v)
		if err != nil {
			return nil, err
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

func isOn(o nodeapi.Observed) bool {
	return o == nodeapi.ObservedRunning || o == nodeapi.ObservedPaused
}

// plugDisks gives a guest that is on the volumes that it lacks. One that is off gets them with its definition.
func (n *Node) plugDisks(ctx context.Context, c nodeapi.Command, req nodeapi.DiskPlug) (nodeapi.Status, error) {
	status, err := n.inspect(ctx, c, nodeapi.Empty{})
	if err != nil || !isOn(status.Observed) {
		return status, err
	}
	disks, err := n.volumeDisks(req.Volumes)
	if err != nil {
		return nodeapi.Status{}, err
	}
	for _, disk := range disks {
		if err := n.cfg.Driver.AttachDisk(ctx, c.VMID, disk); err != nil {
			return n.unlessOff(ctx, c, err)
		}
	}
	return n.status(ctx, c.VMID)
}

// unlessOff takes the refusal of a change to a running guest for success if the guest has gone off meanwhile.
func (n *Node) unlessOff(ctx context.Context, c nodeapi.Command, refused error) (nodeapi.Status, error) {
	if !isRefused(refused) {
		return nodeapi.Status{}, refused
	}
	status, err := n.inspect(ctx, c, nodeapi.Empty{})
	if err != nil || isOn(status.Observed) {
		return nodeapi.Status{}, refused
	}
	return status, nil
}

// Bounds of a detachment. Guests early in their boot lose the question, so it is asked again and again.
const (
	maxUnplug      = 10 * time.Minute
	unplugInterval = 200 * time.Millisecond
)

// unplugDisk asks the guest to let go of a volume, and waits until it has. A guest that keeps it keeps it.
func (n *Node) unplugDisk(ctx context.Context, c nodeapi.Command, req nodeapi.DiskUnplug) (nodeapi.Status, error) {
	disk, err := n.volumeDisk(req.Volume)
	if err != nil {
		return nodeapi.Status{}, err
	}
	end := time.NewTimer(min(req.Patience, maxUnplug))
	defer end.Stop()
	look, asks := time.NewTicker(unplugInterval), time.NewTicker(n.cfg.PressInterval)
	defer look.Stop()
	defer asks.Stop()
	gone, err := n.cfg.Driver.DetachDisk(ctx, c.VMID, disk.Path)
	for err == nil && !gone {
		select {
		case <-look.C:
			var have []string
			if have, err = n.cfg.Driver.AttachedDisks(ctx, c.VMID); err == nil {
				gone = !slices.Contains(have, disk.Path)
			}
		case <-asks.C:
			gone, err = n.cfg.Driver.DetachDisk(ctx, c.VMID, disk.Path)
		case <-end.C:
			return nodeapi.Status{}, vm.ErrVolumeHeld
		case <-ctx.Done():
			return nodeapi.Status{}, context.Cause(ctx)
		}
		if err == nil && !gone { // the list of one that has gone off is that of its definition
			state, stateErr := n.cfg.Driver.Status(ctx, c.VMID)
			gone, err = stateErr == nil && !isOn(state.Observed), stateErr
		}
	}
	if isNotDefined(err) {
		err = nil
	}
	if err != nil {
		return nodeapi.Status{}, err
	}
	return n.inspect(ctx, c, nodeapi.Empty{})
}

// growDisk makes a disk larger: by the hypervisor while the guest is on, in its file otherwise.
func (n *Node) growDisk(ctx context.Context, c nodeapi.Command, req nodeapi.DiskGrow) (nodeapi.Status, error) {
	path, format, err := n.diskFile(c.VMID, req)
	if err != nil {
		return nodeapi.Status{}, err
	}
	if err := n.grow(ctx, c.VMID, path, format, req.SizeBytes); err != nil {
		return nodeapi.Status{}, err
	}
	return n.inspect(ctx, c, nodeapi.Empty{})
}

func (n *Node) diskFile(id uuid.UUID, req nodeapi.DiskGrow) (path, format string, err error) {
	if req.Volume != nil {
		disk, err := n.volumeDisk(*req.Volume)
		return disk.Path, disk.Format, err
	}
	path, _, err = n.store.DiskAndBacking(id, req.Disk)
	return path, "qcow2", err
}

// attempts is how often a change is tried that a guest's going on or off can spoil.
const attempts = 3

func (n *Node) grow(ctx context.Context, id uuid.UUID, path, format string, size int64) error {
	var failed error
	for range attempts {
		state, err := n.cfg.Driver.Status(ctx, id)
		if err != nil && !isNotDefined(err) {
			return err
		}
		if err != nil || !isOn(state.Observed) {
			return n.store.Grow(ctx, path, format, size)
		}
		if have, err := n.cfg.Driver.AttachedDisks(ctx, id); err != nil || !slices.Contains(have, path) {
			if err == nil { // attached in the books, but not yet plugged in: nobody has it open
				err = n.store.Grow(ctx, path, format, size)
			}
			return err
		}
		if have, err := n.store.FileSize(path, format); err != nil || have >= size {
			return err
		}
		if failed = n.cfg.Driver.ResizeDisk(ctx, id, path, size); !isRefused(failed) {
			return failed
		}
	}
	return failed
}
