package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// rootDisk is the name of the disk that a virtual machine boots from.
const rootDisk = "root"

// How long the steps may wait for a node.
const (
	commandTimeout = 2 * time.Minute
	pullTimeout    = time.Hour
)

type createInput struct {
	Start bool `json:"start"`
}

type startInput struct {
	StopFirst bool          `json:"stop_first"`
	Grace     time.Duration `json:"grace_ns"`
}

type stopInput struct {
	Grace time.Duration `json:"grace_ns"`
	// Discard throws away the memory of a virtual machine that is suspended to disk.
	Discard bool `json:"discard,omitempty"`
}

// vmSagas lists what is done to virtual machines. Start, stop and restart begin with the same steps as create: they may have
// superseded a creation, and then it is theirs to finish. On a virtual machine that was provisioned once these steps only see to
// its networks and its definition; its disks are never made anew, which would lose data silently.
func (s *Service) vmSagas() []operation.Saga {
	provision := []operation.Step{
		{Name: "place", Do: s.onVM(s.place)},
		{Name: "image", Weight: 5, Do: s.onVM(s.pullImage)},
		{Name: "network", Do: s.onVM(s.ensureNetworks)},
		{Name: "disk", Do: s.onVM(s.ensureDisk)},
		{Name: "seed", Do: s.onVM(s.ensureSeed)},
		{Name: "define", Do: s.onVM(s.define)},
	}
	with := func(last ...operation.Step) []operation.Step {
		return append(append([]operation.Step{}, provision...), last...)
	}

	// Undo of a creation: from the first step on, the place is given back; from the disk on, or from its discs and kernels, the node removes
	// what it has.
	create := with(operation.Step{Name: "start", Weight: 2, Do: s.onVM(s.startCreated)})
	create[0].Undo = s.release
	create[1].Undo = s.removeMedia
	create[3].Undo = s.remove

	rebuild := with(operation.Step{Name: "start", Do: s.onVM(s.startRebuilt)})
	rebuild[3].Undo = s.onVM(s.goOnAsBefore)

	rescue := with(operation.Step{Name: "start", Do: s.onVM(s.start)})
	rescue[3].Undo = s.onVM(s.undoRescue)

	// What overtakes the attachment of a volume to a guest that goes on running gives the guest what its row says.
	plug := operation.Step{Name: "plug", Do: s.onVM(s.plug)}
	end := s.store.EndVM
	return []operation.Saga{
		{Kind: store.KindCreate, Deadline: 2 * time.Hour, OnEnd: end, Steps: create},
		{Kind: store.KindClone, Deadline: 3 * time.Hour, OnEnd: end, Steps: create},
		{Kind: store.KindRebuild, Deadline: 2 * time.Hour, OnEnd: end, Steps: rebuild},
		{Kind: store.KindRescue, Deadline: 2 * time.Hour, OnEnd: end, Steps: rescue},
		{Kind: store.KindUnrescue, Deadline: time.Hour, OnEnd: end, Steps: with(operation.Step{Name: "start", Do: s.onVM(s.start)})},
		{Kind: store.KindStart, Deadline: time.Hour, OnEnd: end, Steps: with(
			operation.Step{Name: "stop", Do: s.onVM(s.stopFirst)},
			operation.Step{Name: "start", Do: s.onVM(s.start), Undo: s.powerOff},
			operation.Step{Name: "plug", Do: s.onVM(s.plug)})},
		{Kind: store.KindStop, Deadline: time.Hour, OnEnd: end, Steps: with(operation.Step{Name: "stop", Do: s.onVM(s.stop)})},
		{Kind: store.KindRestart, Deadline: time.Hour, OnEnd: end, Steps: with(
			operation.Step{Name: "stop", Do: s.onVM(s.stop)},
			operation.Step{Name: "start", Do: s.onVM(s.start)})},
		{Kind: store.KindReset, Deadline: 10 * time.Minute, OnEnd: end, Steps: []operation.Step{plug, {Name: "reset", Do: s.onVM(s.awake(nodeapi.VerbReset))}}},
		{Kind: store.KindPause, Deadline: 10 * time.Minute, OnEnd: end, Steps: []operation.Step{
			plug, {Name: "pause", Do: s.onVM(s.awake(nodeapi.VerbPause)), Undo: s.onVM(s.unpause)}}},
		{Kind: store.KindResume, Deadline: 10 * time.Minute, OnEnd: end, Steps: []operation.Step{
			plug, {Name: "resume", Do: s.onVM(s.awake(nodeapi.VerbResume))}}},
		{Kind: store.KindSuspend, Deadline: time.Hour, OnEnd: end, Steps: []operation.Step{plug, {Name: "suspend", Do: s.onVM(s.suspend)}}},
		{Kind: store.KindResize, Deadline: 30 * time.Minute, OnEnd: end, Steps: []operation.Step{
			{Name: "reserve", Do: s.onVM(s.reserveSize), Undo: s.onVM(s.undoResize)},
			{Name: "define", Do: s.onVM(s.defineSize), Undo: s.onVM(s.define)},
			{Name: "apply", Do: s.onVM(s.applySize)},
			{Name: "grow", Do: s.onVM(s.growRoot)},
			{Name: "book", Do: s.onVM(s.bookSize), Undo: s.onVM(s.unbookSize)},
			{Name: "shrink", Do: s.onVM(s.shrinkPlace)}}},
		{Kind: store.KindUpdate, Deadline: 2 * time.Hour, OnEnd: end, Steps: []operation.Step{
			{Name: "media", Do: s.onVM(func(ctx context.Context, _ *operation.Run, r store.Record) error { return s.ensureMedia(ctx, r) })},
			{Name: "define", Do: s.onVM(s.define), Undo: s.onVM(s.defineBefore)},
			{Name: "tune", Do: s.onVM(s.tune), Undo: s.onVM(s.tuneBefore)}}},
		{Kind: store.KindDelete, Deadline: 24 * time.Hour, OnEnd: end, PointOfNoReturn: "remove", Steps: []operation.Step{
			{Name: "remove", Do: s.remove}, {Name: "volumes", Do: s.leaveVolumes}, {Name: "snapshots", Do: s.releaseSnapshots},
			{Name: "release", Do: s.release}}},
	}
}

// onVM gives a step the row as it is now, and refuses to act for an intent that a newer one has overtaken.
func (s *Service) onVM(step func(ctx context.Context, run *operation.Run, r store.Record) error) func(context.Context, *operation.Run) error {
	return func(ctx context.Context, run *operation.Run) error {
		r, err := s.store.GetVM(ctx, run.Operation().TargetID)
		if err != nil {
			return err
		}
		if r.Generation != run.Operation().Generation {
			return operation.ErrSuperseded
		}
		return step(ctx, run, r)
	}
}

func target(r store.Record) nodeapi.Target {
	return nodeapi.Target{NodeID: *r.NodeID, VMID: r.ID, Generation: r.Generation}
}

// command sends a verb whose answer is a status, and writes down what the node saw.
func (s *Service) command(ctx context.Context, r store.Record, verb nodeapi.Verb, req any, timeout time.Duration) (nodeapi.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, err := nodeapi.Do[nodeapi.Status](ctx, s.nodes, target(r), verb, req)
	if err != nil {
		return status, err
	}
	_, err = s.store.Observe(ctx, *r.NodeID, 0, status)
	return status, err
}

func (s *Service) verb(verb nodeapi.Verb) func(context.Context, *operation.Run, store.Record) error {
	return func(ctx context.Context, _ *operation.Run, r store.Record) error {
		_, err := s.command(ctx, r, verb, nodeapi.Empty{}, commandTimeout)
		return err
	}
}

// awake is verb for a guest that an operation overtaken by this one may have powered off at the last moment: saved to disk, it goes on from there; and a
// guest that is to be resumed was paused, so it has not gone off of its own will.
func (s *Service) awake(verb nodeapi.Verb) func(context.Context, *operation.Run, store.Record) error {
	act := s.verb(verb)
	return func(ctx context.Context, run *operation.Run, r store.Record) error {
		err := act(ctx, run, r)
		if !errors.Is(err, nodeapi.ErrHypervisorRefused) {
			return err
		}
		status, lookErr := s.command(ctx, r, nodeapi.VerbInspect, nodeapi.Empty{}, commandTimeout)
		if lookErr != nil || status.Observed != nodeapi.ObservedStopped || !status.Saved && verb != nodeapi.VerbResume {
			return err
		}
		if err := s.start(ctx, run, r); err != nil || verb == nodeapi.VerbResume {
			return err
		}
		return act(ctx, run, r)
	}
}

// unpause lets a guest go on, where it is paused. One that is off cannot, and there is nothing to undo.
func (s *Service) unpause(ctx context.Context, run *operation.Run, r store.Record) error {
	err := s.verb(nodeapi.VerbResume)(ctx, run, r)
	if !errors.Is(err, nodeapi.ErrHypervisorRefused) {
		return err
	}
	if status, lookErr := s.command(ctx, r, nodeapi.VerbInspect, nodeapi.Empty{}, commandTimeout); lookErr != nil || status.Observed == nodeapi.ObservedPaused {
		return err
	}
	return nil
}

func (s *Service) place(ctx context.Context, _ *operation.Run, r store.Record) error {
	held, err := s.placer.Confirm(ctx, scheduler.ConfirmRequest{VMID: r.ID})
	if err == nil && !mayRun(r) {
		err = s.trim(ctx, r, held.Allocation)
	}
	if booked := bookedOf(r); err == nil && held.Allocation.StorageBytes > booked { // of a resize or a rescue that was overtaken
		_, err = s.placer.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: r.ID, StorageBytes: booked})
	}
	return err
}

// release gives place and quota back. It works from the id alone: the row may be gone.
func (s *Service) release(ctx context.Context, run *operation.Run) error {
	_, err := s.placer.Release(ctx, scheduler.ReleaseRequest{VMID: run.Operation().TargetID})
	return err
}

// pullImage waits for the image and has the node fetch it.
func (s *Service) pullImage(ctx context.Context, _ *operation.Run, r store.Record) error {
	switch {
	case r.Rebuild != nil:
		if _, err := s.pull(ctx, r.Rebuild.ImageID, *r.NodeID); err != nil {
			return err
		}
	case isEntering(r):
		if _, err := s.pull(ctx, r.Rescuing.ImageID, *r.NodeID); err != nil {
			return err
		}
	case !r.Provisioned && r.Origin == nil: // what a clone stands on is there, since its source stands on it
		image, err := s.pull(ctx, r.ImageID, *r.NodeID)
		switch {
		case err != nil:
			return err
		case image.Kind == vm.ImageKernel || image.Kind == vm.ImageInitrd, image.Kind == vm.ImageISO && r.CDROM.ImageID == nil:
			return vm.ErrImageKind.WithMessage("the image turned out to be of kind %s", image.Kind)
		}
	}
	return s.ensureMedia(ctx, r)
}

// ensureNetworks has the guest's networks on its node, and its protection in force there before it starts.
func (s *Service) ensureNetworks(ctx context.Context, _ *operation.Run, r store.Record) error {
	if err := s.pushPolicy(ctx, *r.NodeID, uuid.Nil, true); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	for _, nic := range r.Networks {
		n, err := s.store.GetNetwork(ctx, nic.NetworkID)
		if err != nil {
			return err
		}
		if _, err := nodeapi.Do[nodeapi.Empty](ctx, s.nodes, nodeapi.Target{NodeID: *r.NodeID}, nodeapi.VerbEnsureNetwork, n.Spec()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) ensureDisk(ctx context.Context, _ *operation.Run, r store.Record) error {
	switch {
	case r.Rebuild != nil:
		return s.finishRebuild(ctx, r)
	case isEntering(r):
		return s.enterRescue(ctx, r)
	case isLeaving(r):
		return s.leaveRescue(ctx, r)
	case r.Provisioned:
		return nil
	case r.Origin != nil:
		return s.cloneDisk(ctx, r)
	}
	image, err := s.store.GetImage(ctx, r.ImageID)
	if err != nil {
		return err
	}
	spec := nodeapi.DiskSpec{Name: rootDisk, ImageSHA256: image.StoredSHA256, SizeBytes: r.Disks[0].SizeBytes}
	if image.Kind == vm.ImageISO { // to be installed from the disc
		spec.ImageSHA256 = ""
	}
	return s.againWithImage(ctx, image.ID, *r.NodeID, func() error { return s.prepare(ctx, r, nodeapi.VerbEnsureDisk, spec) })
}

func (s *Service) ensureSeed(ctx context.Context, _ *operation.Run, r store.Record) error {
	if r.Provisioned {
		return nil
	}
	seed, err := s.seedFor(ctx, r)
	if err != nil {
		return err
	}
	return s.prepare(ctx, r, nodeapi.VerbEnsureSeed, seed)
}

// prepare sends a verb that has no answer.
func (s *Service) prepare(ctx context.Context, r store.Record, verb nodeapi.Verb, req any) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	_, err := nodeapi.Do[nodeapi.Empty](ctx, s.nodes, target(r), verb, req)
	return err
}

func (s *Service) define(ctx context.Context, _ *operation.Run, r store.Record) error {
	volumes, err := s.store.VolumesOf(ctx, r.ID)
	if err != nil {
		return err
	}
	return s.defineWith(ctx, r, volumes)
}

func (s *Service) defineWith(ctx context.Context, r store.Record, volumes []vm.Volume) error {
	media, err := s.mediaOf(ctx, r.Settings)
	if err != nil {
		return err
	}
	spec := nodeapi.DomainSpec{
		Name: r.Name, TenantID: r.TenantID, VCPUs: r.Resources.VCPUs, MemoryBytes: r.Resources.MemoryMiB * mib,
		Disks: []string{rootDisk}, Seed: true, NICs: nicsOf(r), Volumes: refs(volumes), Hardware: hardwareOf(r.Settings), Autostart: r.Autostart.Order,
		Media: media, CommandLine: r.DirectBoot.CommandLine,
	}
	if isRescued(r) {
		bootRescue(&spec)
	}
	if _, err := s.command(ctx, r, nodeapi.VerbDefine, spec, commandTimeout); err != nil {
		return err
	}
	return s.store.SetProvisioned(ctx, r.ID, r.Generation)
}

// start powers on; a guest that is paused goes on.
func (s *Service) start(ctx context.Context, _ *operation.Run, r store.Record) error {
	status, err := s.command(ctx, r, nodeapi.VerbStart, nodeapi.Empty{}, commandTimeout)
	if err != nil {
		return err
	}
	if status.Observed == nodeapi.ObservedPaused {
		_, err = s.command(ctx, r, nodeapi.VerbResume, nodeapi.Empty{}, commandTimeout)
	}
	return err
}

func (s *Service) startCreated(ctx context.Context, run *operation.Run, r store.Record) error {
	var in createInput
	if err := run.Input(&in); err != nil {
		return err
	}
	if !in.Start {
		return nil
	}
	return s.start(ctx, run, r)
}

func (s *Service) stopFirst(ctx context.Context, run *operation.Run, r store.Record) error {
	var in startInput
	if err := run.Input(&in); err != nil {
		return err
	}
	if !in.StopFirst {
		return nil
	}
	return s.shutdown(ctx, r, stopInput{Grace: in.Grace})
}

func (s *Service) stop(ctx context.Context, run *operation.Run, r store.Record) error {
	var in stopInput
	if err := run.Input(&in); err != nil {
		return err
	}
	if err := s.shutdown(ctx, r, in); err != nil {
		return err
	}
	held, err := s.placer.Confirm(ctx, scheduler.ConfirmRequest{VMID: r.ID})
	if err != nil {
		return err
	}
	return s.trim(ctx, r, held.Allocation)
}

func (s *Service) shutdown(ctx context.Context, r store.Record, in stopInput) error {
	_, err := s.command(ctx, r, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{Grace: in.Grace, Discard: in.Discard}, in.Grace+commandTimeout)
	return err
}

// powerOff undoes a start.
func (s *Service) powerOff(ctx context.Context, run *operation.Run) error {
	return s.onVM(func(ctx context.Context, _ *operation.Run, r store.Record) error {
		return s.shutdown(ctx, r, stopInput{})
	})(ctx, run)
}

// remove has the node remove domain, disks and seed. A row that is gone has nothing left on the node.
func (s *Service) remove(ctx context.Context, run *operation.Run) error {
	r, err := s.store.GetVM(ctx, run.Operation().TargetID)
	if errors.Is(err, vm.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.Generation != run.Operation().Generation {
		return operation.ErrSuperseded
	}
	if err := s.prepare(ctx, r, nodeapi.VerbRemove, nodeapi.Empty{}); err != nil {
		return fmt.Errorf("remove virtual machine from its node: %w", err)
	}
	return s.pushPolicy(ctx, *r.NodeID, r.ID, true)
}
