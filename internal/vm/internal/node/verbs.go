package node

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func (n *Node) pullImage(ctx context.Context, _ nodeapi.Command, req nodeapi.ImagePull) (nodeapi.ImagePulled, error) {
	cached, err := n.store.PullImage(ctx, req)
	return nodeapi.ImagePulled{Cached: cached}, err
}

func (n *Node) dropImage(_ context.Context, _ nodeapi.Command, req nodeapi.ImageDrop) (nodeapi.Empty, error) {
	return nodeapi.Empty{}, n.store.DropImage(req.SHA256)
}

func (n *Node) ensureDisk(ctx context.Context, c nodeapi.Command, req nodeapi.DiskSpec) (nodeapi.Empty, error) {
	return nodeapi.Empty{}, n.store.EnsureDisk(ctx, c.VMID, req)
}

func (n *Node) ensureSeed(_ context.Context, c nodeapi.Command, req nodeapi.SeedSpec) (nodeapi.Empty, error) {
	return nodeapi.Empty{}, n.store.EnsureSeed(c.VMID, req)
}

func (n *Node) define(ctx context.Context, c nodeapi.Command, req nodeapi.DomainSpec) (nodeapi.Status, error) {
	def := driver.DomainDef{
		VMID: c.VMID, InstallationID: c.InstallationID, TenantID: req.TenantID, Name: req.Name, Generation: c.Generation,
		VCPUs: req.VCPUs, MemoryBytes: req.MemoryBytes, NICs: req.NICs, ConsoleLog: n.store.ConsolePath(c.VMID),
	}
	if req.VCPUs <= 0 || req.MemoryBytes <= 0 {
		return nodeapi.Status{}, nodeapi.ErrInvalidCommand.WithMessage("%d vCPUs and %d bytes of memory make no virtual machine",
			req.VCPUs, req.MemoryBytes)
	}
	for _, name := range req.Disks {
		path, backing, err := n.store.DiskAndBacking(c.VMID, name)
		if err != nil {
			return nodeapi.Status{}, err
		}
		def.Disks = append(def.Disks, driver.Disk{Path: path, Backing: backing})
	}
	volumes, err := n.volumeDisks(req.Volumes)
	if err != nil {
		return nodeapi.Status{}, err
	}
	def.Volumes = volumes
	giveHardware(&def, req)
	if err := n.giveMedia(&def, req); err != nil {
		return nodeapi.Status{}, err
	}
	if req.Seed {
		if !n.store.HasSeed(c.VMID) {
			return nodeapi.Status{}, nodeapi.ErrStorage.WithMessage("the seed is not on the node")
		}
		def.SeedPath = n.store.SeedPath(c.VMID)
	}
	if err := n.cfg.Driver.Define(ctx, def); err != nil {
		return nodeapi.Status{}, err
	}
	if err := n.keepDefinition(ctx, c.VMID); err != nil {
		return nodeapi.Status{}, err
	}
	return n.status(ctx, c.VMID)
}

// status asks the hypervisor for a virtual machine that should be there.
func (n *Node) status(ctx context.Context, vm uuid.UUID) (nodeapi.Status, error) {
	state, err := n.cfg.Driver.Status(ctx, vm)
	if err != nil {
		return nodeapi.Status{}, err
	}
	return n.statusOf(state), nil
}

func (n *Node) statusOf(state driver.DomainState) nodeapi.Status {
	s := nodeapi.Status{
		VMID: state.VMID, Generation: n.journal.Generation(state.VMID), Observed: state.Observed, Reason: state.Reason,
		At: time.Now().UTC(), Saved: state.Saved,
	}
	if state.Observed == nodeapi.ObservedRunning || state.Observed == nodeapi.ObservedPaused {
		s.Addresses, s.ReadyAt = n.watch.addressesOf(state.VMID), n.watch.readyAt(state.VMID, n.boot.of(state.Boot))
		s.Boot = n.boot.of(state.Boot)
	}
	return s
}

// act does one thing to a domain and answers how it is afterwards.
func (n *Node) act(ctx context.Context, vm uuid.UUID, do func(context.Context, uuid.UUID) error) (nodeapi.Status, error) {
	if err := do(ctx, vm); err != nil {
		return nodeapi.Status{}, err
	}
	return n.status(ctx, vm)
}

func (n *Node) startVM(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Status, error) {
	if err := n.mayStart(); err != nil {
		return nodeapi.Status{}, err
	}
	if err := n.finishRevert(ctx, c.VMID); err != nil {
		return nodeapi.Status{}, err
	}
	return n.act(ctx, c.VMID, n.cfg.Driver.Start)
}

func (n *Node) reset(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Status, error) {
	return n.act(ctx, c.VMID, n.cfg.Driver.Reset)
}

func (n *Node) pause(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Status, error) {
	return n.act(ctx, c.VMID, n.cfg.Driver.Suspend)
}

func (n *Node) resume(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Status, error) {
	return n.act(ctx, c.VMID, n.cfg.Driver.Resume)
}

func (n *Node) shutdown(ctx context.Context, c nodeapi.Command, req nodeapi.ShutdownSpec) (nodeapi.Status, error) {
	if err := n.powerOff(ctx, c.VMID, min(req.Grace, maxGrace)); err != nil {
		return nodeapi.Status{}, err
	}
	if req.Discard {
		return n.act(ctx, c.VMID, n.cfg.Driver.DropSaved)
	}
	return n.status(ctx, c.VMID)
}

func (n *Node) reboot(ctx context.Context, c nodeapi.Command, req nodeapi.ShutdownSpec) (nodeapi.Status, error) {
	if err := n.powerOff(ctx, c.VMID, min(req.Grace, maxGrace)); err != nil {
		return nodeapi.Status{}, err
	}
	if err := n.mayStart(); err != nil {
		return nodeapi.Status{}, err
	}
	return n.act(ctx, c.VMID, n.cfg.Driver.Start)
}

// offInterval is how often a guest that was asked to shut down is looked at.
const offInterval = 200 * time.Millisecond

// powerOff presses the power button until the guest is off, and pulls the plug when the grace time ends first. Guests early in their
// boot lose presses, so it presses again and again.
func (n *Node) powerOff(ctx context.Context, vm uuid.UUID, grace time.Duration) error {
	if grace <= 0 {
		return n.cfg.Driver.Destroy(ctx, vm)
	}
	end := time.NewTimer(grace)
	defer end.Stop()
	press := time.NewTicker(n.cfg.PressInterval)
	defer press.Stop()
	look := time.NewTicker(offInterval)
	defer look.Stop()
	for first := true; ; first = false {
		state, err := n.cfg.Driver.Status(ctx, vm)
		switch {
		case err != nil:
			return err
		case state.Observed == nodeapi.ObservedStopped || state.Observed == nodeapi.ObservedCrashed:
			return nil
		case first:
			if err := n.pressPower(ctx, state); err != nil {
				return err
			}
		}
		select {
		case <-look.C:
		case <-press.C:
			if err := n.pressPower(ctx, state); err != nil {
				return err
			}
		case <-end.C:
			n.cfg.Log.Info("a guest did not shut down in time and is powered off", "vm_id", vm, "grace", grace)
			return n.cfg.Driver.Destroy(ctx, vm)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pressPower presses the power button; a paused guest could not react and is resumed first. What the hypervisor refuses here, as
// when the guest has ended just now, the next look or the end of the grace time settles.
func (n *Node) pressPower(ctx context.Context, state driver.DomainState) error {
	press := n.cfg.Driver.Shutdown
	if state.Observed == nodeapi.ObservedPaused {
		if err := n.cfg.Driver.Resume(ctx, state.VMID); err != nil && !isRefused(err) {
			return err
		}
	}
	if err := press(ctx, state.VMID); err != nil && !isRefused(err) {
		return err
	}
	return nil
}

func (n *Node) removeVM(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Empty, error) {
	return nodeapi.Empty{}, n.remove(ctx, c.VMID, c.Generation)
}

// remove removes all of a virtual machine. The tombstone comes first: whatever happens afterwards, no late command can make
// anything of it again, and the same removal can be repeated.
func (n *Node) remove(ctx context.Context, vm uuid.UUID, generation int64) error {
	if err := n.journal.Bury(vm, generation, time.Now()); err != nil {
		return err
	}
	err := n.cfg.Driver.Destroy(ctx, vm)
	if err != nil && !isNotDefined(err) {
		return err
	}
	if err == nil {
		if err := n.cfg.Driver.ReleaseLeases(ctx, vm); err != nil {
			n.cfg.Log.Debug("leases are left to expire", "vm_id", vm, "error", err)
		}
		if err := n.cfg.Driver.Undefine(ctx, vm); err != nil {
			return err
		}
	}
	return n.store.Remove(vm)
}

// inspect answers for what is absent, too.
func (n *Node) inspect(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Status, error) {
	s, err := n.status(ctx, c.VMID)
	if isNotDefined(err) {
		return nodeapi.Status{
			VMID: c.VMID, Generation: n.journal.Generation(c.VMID), Observed: nodeapi.ObservedAbsent, At: time.Now().UTC(),
		}, nil
	}
	return s, err
}

func (n *Node) list(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.StatusList, error) {
	states, err := n.cfg.Driver.List(ctx)
	if err != nil {
		return nodeapi.StatusList{}, err
	}
	var list nodeapi.StatusList
	for _, s := range states {
		if s.InstallationID == c.InstallationID {
			list.Statuses = append(list.Statuses, n.statusOf(s))
		}
	}
	return list, nil
}
