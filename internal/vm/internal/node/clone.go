package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// cloneDisk copies a disk of another virtual machine for a new one. That other one goes on: what is copied is a snapshot of it, which is
// taken for this alone where the command names none.
func (n *Node) cloneDisk(ctx context.Context, c nodeapi.Command, req nodeapi.DiskClone) (nodeapi.Empty, error) {
	if req.Source == uuid.Nil || req.Source == c.VMID || req.SizeBytes <= 0 {
		return nodeapi.Empty{}, nodeapi.ErrInvalidCommand
	}
	if done, err := n.store.IsCloned(c.VMID, req.Name, req.SizeBytes); err != nil || done {
		return nodeapi.Empty{}, err
	}
	if req.Snapshot != nil {
		return nodeapi.Empty{}, n.store.CloneDisk(ctx, c.VMID, req, *req.Snapshot)
	}
	take := nodeapi.SnapshotTake{SnapshotRef: nodeapi.SnapshotRef{ID: c.VMID, Disks: []string{req.Name}}, Quiesce: nodeapi.QuiesceAuto}
	// Dropped even where it could not be taken: an earlier attempt may have left it.
	defer n.leaveSource(context.WithoutCancel(ctx), req.Source, take.SnapshotRef)
	err := n.onSource(ctx, req.Source, func(ctx context.Context) error { return n.takeForClone(ctx, req.Source, take) })
	if err != nil {
		return nodeapi.Empty{}, err
	}
	return nodeapi.Empty{}, n.store.CloneDisk(ctx, c.VMID, req, take.ID)
}

// onSource does something to the virtual machine that is cloned, between the commands for it. A command for it that comes meanwhile is
// not kept waiting.
func (n *Node) onSource(ctx context.Context, source uuid.UUID, do func(context.Context) error) error {
	turn, leave, err := n.fence.enter(ctx, source, n.journal.Generation(source))
	if errors.Is(err, nodeapi.ErrStaleGeneration) {
		return nodeapi.ErrCloneBusy.Wrap(err)
	}
	if err != nil {
		return err
	}
	defer leave()
	err = do(turn)
	if err != nil && errors.Is(context.Cause(turn), nodeapi.ErrStaleGeneration) {
		return nodeapi.ErrCloneBusy.Wrap(err)
	}
	return err
}

// takeForClone takes the snapshot, anew where an attempt has left one: the guest has written since.
func (n *Node) takeForClone(ctx context.Context, source uuid.UUID, take nodeapi.SnapshotTake) error {
	files, err := n.files(source, take.SnapshotRef)
	if err != nil {
		return nodeapi.ErrCloneGone.Wrap(err)
	}
	if err := n.store.MarkClone(source, take.ID, take.SnapshotRef); err != nil {
		return err
	}
	if err := n.drop(ctx, source, take.SnapshotRef); err != nil {
		return err
	}
	for range attempts {
		state, statusErr := n.cfg.Driver.Status(ctx, source)
		if statusErr != nil && !isNotDefined(statusErr) {
			return statusErr
		}
		if statusErr != nil {
			state.Observed = nodeapi.ObservedStopped
		}
		if _, err = n.snapshot(ctx, source, state.Observed, take, files); !isRefused(err) {
			break
		}
	}
	return err
}

// leaveSource removes the snapshot that was there only to be copied: here, or as often as it takes.
func (n *Node) leaveSource(ctx context.Context, source uuid.UUID, ref nodeapi.SnapshotRef) {
	if !n.dropClone(ctx, source, ref) {
		n.keepDropping(source, ref)
	}
}

// keepDropping goes on with leaveSource in the background. It takes turns with the clone's own commands, one of which may copy again.
func (n *Node) keepDropping(source uuid.UUID, ref nodeapi.SnapshotRef) {
	n.running.Go(func() { // ends with the node, whose next start goes on
		tick := time.NewTicker(cloneSweep)
		defer tick.Stop()
		for {
			turn, leave, err := n.fence.enter(n.life, ref.ID, n.journal.Generation(ref.ID))
			gone := false
			if err == nil {
				gone = n.dropClone(turn, source, ref)
				leave()
			}
			if gone {
				return
			}
			select {
			case <-tick.C:
			case <-n.life.Done():
				return
			}
		}
	})
}

// cloneSweep is how often it is tried to remove what is left of a clone from its source.
const cloneSweep = 10 * time.Second

// dropClone tells whether nothing is left of a clone in its source.
func (n *Node) dropClone(ctx context.Context, source uuid.UUID, ref nodeapi.SnapshotRef) bool {
	if !n.store.Has(source) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	err := n.onSource(ctx, source, func(ctx context.Context) error {
		if !n.store.Has(source) {
			return nil
		}
		if err := n.drop(ctx, source, ref); err != nil {
			return err
		}
		return n.store.ClearClone(source, ref.ID)
	})
	if err != nil {
		n.cfg.Log.Info("what is left of a clone in its source could not be removed yet", "vm_id", source, "clone_id", ref.ID, "error", err)
	}
	return err == nil
}

// dropClones goes on, at the start of the node, with what a crash interrupted.
func (n *Node) dropClones() {
	vms, err := n.store.VMs()
	if err != nil {
		n.cfg.Log.Error("what is left of clones could not be found", "error", err)
	}
	for _, id := range vms {
		refs, err := n.store.Clones(id)
		if err != nil {
			n.cfg.Log.Error("what is left of clones could not be read", "vm_id", id, "error", err)
		}
		for _, ref := range refs {
			n.keepDropping(id, ref)
		}
	}
}

// replaceDisk makes a disk of a guest that is off anew.
func (n *Node) replaceDisk(ctx context.Context, c nodeapi.Command, req nodeapi.DiskSpec) (nodeapi.Empty, error) {
	state, err := n.cfg.Driver.Status(ctx, c.VMID)
	switch {
	case err != nil && !isNotDefined(err):
		return nodeapi.Empty{}, err
	case err == nil && isOn(state.Observed):
		return nodeapi.Empty{}, nodeapi.ErrHypervisorRefused.WithMessage("the guest is on, so that its disk cannot be replaced")
	}
	if req.Name == rootDisk {
		if err := n.store.ClearRevert(c.VMID); err != nil { // what was to come back is not wanted any more
			return nodeapi.Empty{}, err
		}
	}
	return nodeapi.Empty{}, n.store.ReplaceDisk(ctx, c.VMID, req)
}

// dropDisk removes a disk that no guest has, and that the definition does not name.
func (n *Node) dropDisk(ctx context.Context, c nodeapi.Command, req nodeapi.DiskRef) (nodeapi.Empty, error) {
	if req.Name == rootDisk {
		return nodeapi.Empty{}, nodeapi.ErrInvalidCommand.WithMessage("the root disk goes with its virtual machine alone")
	}
	path, err := n.store.DiskPath(c.VMID, req.Name)
	if err != nil {
		return nodeapi.Empty{}, err
	}
	have, err := n.cfg.Driver.AttachedDisks(ctx, c.VMID)
	switch {
	case err != nil && !isNotDefined(err):
		return nodeapi.Empty{}, err
	case slices.Contains(have, path):
		return nodeapi.Empty{}, nodeapi.ErrHypervisorRefused.WithMessage("the guest has the disk %q, so that it cannot be removed", req.Name)
	}
	return nodeapi.Empty{}, n.store.DropDisk(c.VMID, req.Name)
}
