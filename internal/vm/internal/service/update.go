package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// hardwareOf gives the settings in the form that nodes understand.
func hardwareOf(v vm.Settings) nodeapi.Hardware {
	hw := nodeapi.Hardware{CPUModel: v.CPU.Model, Sockets: v.CPU.Sockets, Cores: v.CPU.Cores, Threads: v.CPU.Threads, Boot: v.BootOrder, Limits: limitsOf(v)}
	if v.Watchdog.Model != vm.WatchdogNone {
		hw.Watchdog, hw.WatchdogAction = v.Watchdog.Model, v.Watchdog.Action
	}
	return hw
}

func limitsOf(v vm.Settings) map[string]nodeapi.IOLimits {
	limits := make(map[string]nodeapi.IOLimits, len(v.IOLimits))
	for disk, l := range v.IOLimits {
		limits[disk] = nodeapi.IOLimits(l)
	}
	return limits
}

// Update changes what can be edited, as change says, if the virtual machine is still what version tells. Where the node has to follow, it
// waits for that, so long; a machine that is still held by the operation then shows it. What the node refuses is taken back.
func (s *Service) Update(ctx context.Context, id uuid.UUID, version func(vm.VM) bool, wait time.Duration, change func(*store.Edited)) (vm.VM, error) {
	r, err := s.recordTo(ctx, id, "vm:update")
	if err != nil {
		return vm.VM{}, err
	}
	volumes, err := s.store.VolumesOf(ctx, id)
	if err != nil {
		return vm.VM{}, err
	}
	decide := func(r store.Record, live *operation.Operation) (store.Edited, error) {
		after := store.EditedOf(r.VM)
		after.Tags, after.Settings.IOLimits = maps.Clone(after.Tags), maps.Clone(after.Settings.IOLimits)
		switch {
		case !version(r.VM):
			return after, vm.ErrVersion
		case live != nil:
			return after, vm.ErrLocked.WithMeta("operation_id", live.ID.String())
		}
		change(&after)
		after.Settings.CDROM.Drive = after.Settings.CDROM.Drive || r.CDROM.Drive || after.Settings.CDROM.ImageID != nil
		if r.Suspended && (!r.CDROM.Equal(after.Settings.CDROM) || !r.DirectBoot.Equal(after.Settings.DirectBoot)) {
			return after, vm.ErrWrongState.WithMessage("the virtual machine is suspended to disk, with what is in its drive").WithAction("Start it first.")
		}
		return after, checkEdited(r, volumes, after)
	}
	after, err := decide(r, nil) // a look at what it is about; the decision follows under the lock
	if err != nil {
		return vm.VM{}, err
	}
	before := r.Settings
	if err := s.checkMedia(ctx, &before, &after.Settings, "body.", vm.ErrInvalid); err != nil {
		return vm.VM{}, err
	}
	if !r.Provisioned || !follows(store.EditedOf(r.VM), after) {
		if err := s.store.Edit(ctx, id, decide); err != nil {
			return vm.VM{}, err
		}
		return s.Get(ctx, id)
	}
	op, err := s.begin(ctx, Request{VMID: id}, store.KindUpdate, "vm:update", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		after, err := decide(r, live)
		return store.Intent{Kind: store.KindUpdate, Desired: r.DesiredState, Input: store.UpdateInput{Before: store.EditedOf(r.VM), After: after},
			Then: s.store.Editing(after)}, err
	})
	if err != nil {
		return vm.VM{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	op, err = s.ops.Wait(waiting, op.ID)
	switch {
	case err != nil && waiting.Err() == nil:
		return vm.VM{}, fmt.Errorf("wait for the node to follow: %w", err)
	case err == nil && op.Status == operation.StatusFailed && op.Error != nil:
		return vm.VM{}, op.Error
	}
	return s.Get(ctx, id)
}

// follows tells whether an edit is of any concern to the node.
func follows(before, after store.Edited) bool {
	return before.Name != after.Name || before.Settings.Autostart.Order != after.Settings.Autostart.Order ||
		!sameHardware(before.Settings, after.Settings) || !before.Settings.CDROM.Equal(after.Settings.CDROM) || !maps.Equal(before.Settings.IOLimits, after.Settings.IOLimits)
}

// sameHardware compares what a guest takes up at its start only.
func sameHardware(a, b vm.Settings) bool { return len(changed(a, b)) == 0 }

func changed(before, after vm.Settings) []vm.Pending {
	var fields []vm.Pending
	if before.CPU != after.CPU {
		fields = append(fields, vm.Pending{Field: "cpu", Active: before.CPU.Model})
	}
	if before.Watchdog != after.Watchdog {
		fields = append(fields, vm.Pending{Field: "watchdog", Active: before.Watchdog.Model})
	}
	if !slices.Equal(before.BootOrder, after.BootOrder) {
		fields = append(fields, vm.Pending{Field: "boot_order"})
	}
	if before.CDROM.Drive != after.CDROM.Drive { // a disc goes in and out at once, the drive does not
		fields = append(fields, vm.Pending{Field: "cdrom"})
	}
	if !before.DirectBoot.Equal(after.DirectBoot) {
		fields = append(fields, vm.Pending{Field: "direct_boot"})
	}
	return fields
}

// checkEdited refuses what makes no virtual machine.
func checkEdited(r store.Record, volumes []vm.Volume, e store.Edited) error {
	bad := vm.ErrInvalid
	add := func(field, message, value string) { bad = bad.WithField("body."+field, message, value) }
	if !nameRule.MatchString(e.Name) {
		add("name", "must be an RFC 1123 label: 1 to 63 of a-z, 0-9 and '-', not at either end", e.Name)
	}
	disks := map[string]bool{rootDisk: true}
	for _, v := range volumes {
		disks[v.ID.String()] = true
	}
	for key, value := range e.Tags {
		if len(key) == 0 || len(key) > 128 || len(value) > 256 {
			add("tags", "keys have 1 to 128 and values at most 256 bytes", key)
		}
	}
	if len(e.Tags) > 64 {
		add("tags", "must be 64 at most", strconv.Itoa(len(e.Tags)))
	}
	before := r.Settings
	for disk := range e.Settings.IOLimits {
		if _, had := before.IOLimits[disk]; !disks[disk] && !had {
			add("io_limits", "is neither 'root' nor the id of an attached volume", disk)
		}
	}
	cpu := e.Settings.CPU
	switch n := cpu.Count(); {
	case n == 0 && cpu.Sockets+cpu.Cores+cpu.Threads > 0:
		add("cpu", "sockets, cores and threads go together: all three, or none", "")
	case n > 1024:
		add("cpu", "makes more than 1024 vCPUs", strconv.Itoa(n))
	case n > 0 && n < r.Resources.VCPUs:
		add("cpu", fmt.Sprintf("makes fewer than the %d vCPUs that the machine has", r.Resources.VCPUs), strconv.Itoa(n))
	}
	seen := map[string]bool{}
	for _, name := range e.Settings.BootOrder {
		switch {
		case seen[name]:
			add("boot_order", "is named twice", name)
		case name == nodeapi.BootNetwork && len(r.Networks) == 0:
			add("boot_order", "the machine has no network", name)
		case name == nodeapi.BootCDROM && !e.Settings.CDROM.Drive && !slices.Contains(before.BootOrder, name):
			add("boot_order", "the machine has no drive for discs", name)
		case name != nodeapi.BootNetwork && name != nodeapi.BootCDROM && !disks[name] && !slices.Contains(before.BootOrder, name):
			add("boot_order", "is none of 'root', 'cdrom', 'network' and the ids of attached volumes", name)
		}
		seen[name] = true
	}
	if len(bad.Fields) > 0 {
		return bad
	}
	return nil
}

// tune gives a guest that runs what it can take up at once, and notes the rest.
func (s *Service) tune(ctx context.Context, run *operation.Run, r store.Record) error {
	var in store.UpdateInput
	if err := run.Input(&in); err != nil {
		return err
	}
	pending := slices.Clone(r.Pending)
	for _, field := range changed(in.Before.Settings, in.After.Settings) {
		if !slices.ContainsFunc(pending, func(p vm.Pending) bool { return p.Field == field.Field }) {
			pending = append(pending, field)
		}
	}
	return s.tuneTo(ctx, r, pending)
}

func (s *Service) tuneTo(ctx context.Context, r store.Record, pending []vm.Pending) error {
	volumes, err := s.store.VolumesOf(ctx, r.ID)
	if err != nil {
		return err
	}
	media, err := s.mediaOf(ctx, r.Settings)
	if err != nil {
		return err
	}
	if _, err = s.command(ctx, r, nodeapi.VerbTune, nodeapi.Tune{Name: r.Name, Limits: limitsOf(r.Settings), Disks: []string{rootDisk},
		Volumes: refs(volumes), Media: media}, commandTimeout); err != nil {
		return err
	}
	if !mayRun(r) {
		pending = []vm.Pending{}
	}
	return s.store.SetPending(ctx, r.ID, r.Generation, pending)
}

// beforeOf gives a virtual machine as it was before the edit, whose row is taken back when the undoing has ended.
func beforeOf(run *operation.Run, r store.Record) (store.Record, error) {
	var in store.UpdateInput
	err := run.Input(&in)
	r.Name, r.Settings = in.Before.Name, in.Before.Settings
	return r, err
}

func (s *Service) defineBefore(ctx context.Context, run *operation.Run, r store.Record) error {
	before, err := beforeOf(run, r)
	if err != nil {
		return err
	}
	return s.define(ctx, run, before)
}

func (s *Service) tuneBefore(ctx context.Context, run *operation.Run, r store.Record) error {
	var in store.UpdateInput
	if err := run.Input(&in); err != nil {
		return err
	}
	before, err := beforeOf(run, r)
	if err != nil {
		return err
	}
	fields := changed(in.Before.Settings, in.After.Settings)
	return s.tuneTo(ctx, before, slices.DeleteFunc(slices.Clone(r.Pending), func(p vm.Pending) bool { return slices.Contains(fields, p) }))
}
