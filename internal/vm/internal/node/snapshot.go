package node

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/node/storage"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// agentPatience is how long a guest agent may take to hold the file systems, and again to let them go.
const agentPatience = 5 * time.Second

// file is one disk of a virtual machine.
type file struct{ path, format string }

// files finds the disks that a snapshot is in.
func (n *Node) files(id uuid.UUID, ref nodeapi.SnapshotRef) ([]file, error) {
	var list []file
	for _, name := range ref.Disks {
		path, _, err := n.store.DiskAndBacking(id, name)
		if err != nil {
			return nil, err
		}
		list = append(list, file{path, "qcow2"})
	}
	for _, v := range ref.Volumes {
		path, _, err := n.store.VolumePath(v)
		if err != nil {
			return nil, err
		}
		list = append(list, file{path, v.Format})
	}
	return list, nil
}

// present finds those of the disks that are there: what is lost holds no snapshot, and must not keep the others from losing theirs.
func (n *Node) present(id uuid.UUID, ref nodeapi.SnapshotRef) []file {
	var list []file
	for _, name := range ref.Disks {
		if found, err := n.files(id, nodeapi.SnapshotRef{Disks: []string{name}}); err == nil {
			list = append(list, found...)
		}
	}
	for _, v := range ref.Volumes {
		if found, err := n.files(id, nodeapi.SnapshotRef{Volumes: []nodeapi.Volume{v}}); err == nil {
			list = append(list, found...)
		}
	}
	return list
}

func pathsOf(files []file) []string {
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.path
	}
	return paths
}

// takeSnapshot takes a snapshot once: its record, written last, says that it is complete. Whatever else is found of it is of an earlier
// attempt and dropped first, except memory, which would be lost.
func (n *Node) takeSnapshot(ctx context.Context, c nodeapi.Command, req nodeapi.SnapshotTake) (nodeapi.SnapshotTaken, error) {
	record, done, err := n.store.Snapshot(c.VMID, req.ID)
	if err != nil || done {
		return record.Taken, err
	}
	files, err := n.files(c.VMID, req.SnapshotRef)
	if err != nil {
		return nodeapi.SnapshotTaken{}, err
	}
	for range attempts {
		state, statusErr := n.cfg.Driver.Status(ctx, c.VMID)
		if statusErr != nil {
			return nodeapi.SnapshotTaken{}, statusErr
		}
		if record, err = n.snapshot(ctx, c.VMID, state.Observed, req, files); !isRefused(err) {
			break
		}
	}
	if err == nil {
		record.Taken.MemoryBytes, err = n.memoryIn(ctx, files, req)
	}
	if err == nil {
		err = context.Cause(ctx) // a newer command would not know of it
	}
	if err == nil {
		err = n.store.KeepSnapshot(c.VMID, req.ID, record)
	}
	if err != nil {
		n.cleanUp(ctx, c.VMID, req.SnapshotRef)
		return nodeapi.SnapshotTaken{}, err
	}
	n.metrics.pause.Observe(record.Taken.Pause.Seconds())
	return record.Taken, nil
}

// cleanTimeout bounds the removal of what is left of a snapshot that failed.
const cleanTimeout = time.Minute

// cleanUp removes what is left of a snapshot that failed or was overtaken. What it cannot remove now, the controller has removed later.
func (n *Node) cleanUp(ctx context.Context, id uuid.UUID, ref nodeapi.SnapshotRef) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if err := n.drop(ctx, id, ref); err != nil {
		n.cfg.Log.Warn("what is left of a snapshot could not be removed yet", "vm_id", id, "snapshot_id", ref.ID, "error", err)
	}
}

// memoryIn makes sure that every disk holds the snapshot, and tells how much memory is in it.
func (n *Node) memoryIn(ctx context.Context, files []file, req nodeapi.SnapshotTake) (bytes int64, err error) {
	for _, f := range files {
		holds, memory, err := n.store.Holds(ctx, f.path, req.ID)
		if err != nil {
			return 0, err
		}
		if !holds {
			return 0, nodeapi.ErrStorage.WithMessage("the snapshot is not in every disk").WithRetryable(true)
		}
		bytes += memory
	}
	return bytes, nil
}

// snapshot takes a snapshot of a guest in the state that it was seen in.
func (n *Node) snapshot(ctx context.Context, id uuid.UUID, seen nodeapi.Observed, req nodeapi.SnapshotTake, files []file) (r storage.SnapshotRecord, err error) {
	r.Taken.Observed = seen
	switch {
	case isOn(seen) && req.Memory:
		began := time.Now()
		r.Definition, err = n.cfg.Driver.SnapshotMemory(ctx, id, req.ID.String())
		r.Taken.Pause = time.Since(began)
	case isOn(seen):
		r.Taken.Frozen, r.Taken.Pause, err = n.frozen(ctx, id, seen, req.Quiesce, func() error {
			return n.cfg.Driver.SnapshotDisks(ctx, id, req.ID.String(), pathsOf(files))
		})
	case req.Memory:
		err = vm.ErrSnapshotMemory
	default:
		for _, f := range files {
			if err = n.store.TakeSnapshot(ctx, f.path, req.ID); err != nil {
				break
			}
		}
	}
	return r, err
}

// frozen runs take while the guest agent holds the guest's file systems, as far as that is wanted and possible, and tells how long the guest
// was held. It waits for an agent for a bounded time, and whatever the agent does, the guest is thawed: here, or as long as it takes.
func (n *Node) frozen(ctx context.Context, id uuid.UUID, seen nodeapi.Observed, how nodeapi.Quiesce, take func() error) (frozen bool, pause time.Duration, err error) {
	if how != nodeapi.QuiesceOff && seen == nodeapi.ObservedRunning {
		connected, err := n.cfg.Driver.AgentConnected(ctx, id)
		if err != nil {
			return false, 0, err
		}
		if connected {
			if err := n.store.MarkFrozen(id); err != nil {
				return false, 0, err
			}
			defer func() { n.thaw(context.WithoutCancel(ctx), id) }()
			began := time.Now()
			err = n.cfg.Driver.Freeze(ctx, id, agentPatience)
			if frozen = err == nil; frozen {
				err := take()
				n.thawOnce(context.WithoutCancel(ctx), id)
				return true, time.Since(began), err
			}
			if !errors.Is(err, driver.ErrNoAgent) {
				return false, 0, err
			}
			n.cfg.Log.Info("a guest agent did not freeze its guest", "vm_id", id, "error", err)
		}
	}
	if how == nodeapi.QuiesceRequired {
		return false, 0, vm.ErrNotFrozen
	}
	began := time.Now()
	err = take()
	return false, time.Since(began), err
}

// thawOnce asks once to let the file systems go on, and tells whether that is settled.
func (n *Node) thawOnce(ctx context.Context, id uuid.UUID) bool {
	err := n.cfg.Driver.Thaw(ctx, id, agentPatience)
	if err != nil && !isNotDefined(err) {
		return false
	}
	if err := n.store.ClearFrozen(id); err != nil {
		n.cfg.Log.Warn("the mark of a frozen guest stays", "vm_id", id, "error", err)
	}
	return true
}

// thawInterval is how often a guest that may be frozen is asked again.
const thawInterval = 5 * time.Second

// thaw lets a guest go on that may be frozen: at once, and from then on again and again in the background until its agent answers or it is
// off. Nobody waits for that.
func (n *Node) thaw(ctx context.Context, id uuid.UUID) {
	if frozen, err := n.store.IsFrozen(id); err == nil && !frozen || n.thawOnce(ctx, id) {
		return
	}
	n.cfg.Log.Warn("a guest agent hangs, and its guest may be frozen until it answers", "vm_id", id)
	n.running.Go(func() { // ends with the node, whose next start goes on
		tick := time.NewTicker(thawInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if n.thawOnce(n.life, id) {
					n.cfg.Log.Info("a guest that may have been frozen goes on", "vm_id", id)
					return
				}
			case <-n.life.Done():
				return
			}
		}
	})
}

// thawAll goes on with what a crash interrupted between freezing and thawing.
func (n *Node) thawAll(ctx context.Context) {
	frozen, err := n.store.Frozen()
	if err != nil {
		n.cfg.Log.Error("the frozen guests could not be found", "error", err)
	}
	for _, id := range frozen {
		n.running.Go(func() { n.thaw(ctx, id) }) // bounded by the agent's patience
	}
}

func (n *Node) dropSnapshot(ctx context.Context, c nodeapi.Command, req nodeapi.SnapshotRef) (nodeapi.Empty, error) {
	return nodeapi.Empty{}, n.drop(ctx, c.VMID, req)
}

// drop removes a snapshot from hypervisor and disks. The record goes first: without it, what is left counts as incomplete.
func (n *Node) drop(ctx context.Context, id uuid.UUID, ref nodeapi.SnapshotRef) error {
	if err := n.store.ForgetSnapshot(id, ref.ID); err != nil {
		return err
	}
	var err error
	files := n.present(id, ref)
	for range attempts {
		if err = n.cfg.Driver.DropSnapshot(ctx, id, ref.ID.String(), pathsOf(files)); err != nil && !isNotDefined(err) {
			if isRefused(err) {
				continue
			}
			return err
		}
		state, statusErr := n.cfg.Driver.Status(ctx, id)
		if statusErr != nil && !isNotDefined(statusErr) {
			return statusErr
		}
		if statusErr == nil && isOn(state.Observed) {
			return nil
		}
		for _, f := range files {
			if err = n.store.DropSnapshot(ctx, f.path, ref.ID); err != nil {
				break
			}
		}
		if err == nil || !errs.Retryable(err) {
			return err
		}
	}
	return err
}

// revertSnapshot takes the disks of a guest that is off back to a snapshot, all of them or, after a crash, all of them before the guest
// starts again.
func (n *Node) revertSnapshot(ctx context.Context, c nodeapi.Command, req nodeapi.SnapshotRevert) (nodeapi.Status, error) {
	record, complete, err := n.store.Snapshot(c.VMID, req.ID)
	if err != nil {
		return nodeapi.Status{}, err
	}
	files, err := n.files(c.VMID, req.SnapshotRef)
	if err != nil {
		return nodeapi.Status{}, err
	}
	for _, f := range files {
		holds, _, err := n.store.Holds(ctx, f.path, req.ID)
		if err != nil {
			return nodeapi.Status{}, err
		}
		complete = complete && holds
	}
	if !complete {
		return nodeapi.Status{}, nodeapi.ErrSnapshotLost
	}
	if req.Memory && record.Taken.MemoryBytes == 0 && record.Definition == "" {
		return nodeapi.Status{}, nodeapi.ErrSnapshotLost
	}
	if err := n.store.MarkRevert(c.VMID, req); err != nil {
		return nodeapi.Status{}, err
	}
	if err := n.finishRevert(ctx, c.VMID); err != nil {
		return nodeapi.Status{}, err
	}
	return n.status(ctx, c.VMID)
}

// finishRevert goes on with what MarkRevert noted. From there on it only goes forward: disks of two moments must never be seen together by
// a guest.
func (n *Node) finishRevert(ctx context.Context, id uuid.UUID) error {
	req, begun, err := n.store.Reverting(id)
	if err != nil || !begun {
		return err
	}
	ctx = context.WithoutCancel(ctx) // each of what follows has its own limit
	files, err := n.files(id, req.SnapshotRef)
	if err != nil {
		return err
	}
	if err := n.cfg.Driver.Destroy(ctx, id); err != nil && !isNotDefined(err) {
		return err
	}
	if req.Memory {
		record, _, err := n.store.Snapshot(id, req.ID)
		if err != nil {
			return err
		}
		if err := n.cfg.Driver.RevertMemory(ctx, id, req.ID.String(), record.Definition); err != nil {
			return err
		}
	} else {
		for _, f := range files {
			if err := n.store.Revert(ctx, f.path, req.ID); err != nil {
				return err
			}
		}
	}
	if err := n.store.ClearRevert(id); err != nil {
		return err
	}
	for i, f := range files {
		if i < len(req.Sizes) {
			if err := n.grow(ctx, id, f.path, f.format, req.Sizes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishReverts goes on, at the start of the node, with what a crash interrupted.
func (n *Node) finishReverts(ctx context.Context) {
	vms, err := n.store.VMs()
	if err != nil {
		n.cfg.Log.Error("the disks that go back to a snapshot could not be found", "error", err)
	}
	for _, id := range vms {
		if _, begun, err := n.store.Reverting(id); err != nil || !begun {
			continue
		}
		n.running.Go(func() { // bounded by the limits of its parts
			turn, leave, err := n.fence.enter(ctx, id, n.journal.Generation(id))
			if err != nil {
				return // a newer command is at work, and a start would go on with it
			}
			defer leave()
			if err := n.finishRevert(turn, id); err != nil {
				n.cfg.Log.Error("the disks could not go back to a snapshot", "vm_id", id, "error", err)
			}
		})
	}
}
