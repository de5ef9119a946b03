package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// cloneTimeout is how long the copy of a disk may take; the node's own limit is no longer.
const cloneTimeout = 2 * time.Hour

// CloneRequest says what to make of which virtual machine. What is nil is as it is there.
type CloneRequest struct {
	VMID             uuid.UUID
	Name             string
	Mode             vm.CloneMode // empty: full
	SnapshotID       *uuid.UUID   // nil: as it is now
	Description      *string
	Tags             map[string]string
	UserData         *string
	SSHKeys          []string
	Interfaces       []vm.InterfaceRequest
	DiskGiB          int64 // 0: as large as there
	DeleteProtection bool
	Stopped          bool
	IdempotencyKey   string
}

// Clone begins to make a virtual machine whose root disk is a copy of another's. That one may run meanwhile.
func (s *Service) Clone(ctx context.Context, req CloneRequest) (operation.Operation, error) {
	p := caller(ctx)
	if req.IdempotencyKey != "" {
		if op, ok, err := s.ops.FindByIdempotencyKey(ctx, p.UserID, store.KindClone, req.IdempotencyKey); err != nil || ok {
			return op, err
		}
	}
	source, err := s.cloneable(ctx, req)
	if err != nil {
		return operation.Operation{}, err
	}
	r, err := s.cloneOf(ctx, source, req)
	if err != nil {
		return operation.Operation{}, err
	}
	return s.reserveAndInsert(ctx, r, store.KindClone, req.IdempotencyKey)
}

// cloneable reads the virtual machine that is to be cloned. Its disk's content is the caller's from then on, so it takes more than the
// permission to look at it.
func (s *Service) cloneable(ctx context.Context, req CloneRequest) (store.Record, error) {
	source, err := s.recordTo(ctx, req.VMID, "vm:update")
	switch {
	case err != nil:
		return source, err
	case source.TenantID != caller(ctx).TenantID:
		return source, vm.ErrInvalid.WithMessage("the machine belongs to another tenant than the one that you act in").
			WithAction("Act in its tenant: send X-Tenant-ID.")
	case !source.Provisioned || source.NodeID == nil:
		return source, vm.ErrWrongState.WithMessage("the virtual machine was never finished").WithAction("Start it, which finishes it.")
	case source.Rebuild != nil:
		return source, vm.ErrRebuildPending
	case source.Rescuing != nil:
		return source, vm.ErrRescued
	case req.SnapshotID == nil:
		return source, nil
	}
	n, err := s.store.GetSnapshot(ctx, *req.SnapshotID)
	if err == nil && n.VMID != source.ID {
		err = vm.ErrSnapshotNotFound
	}
	if err == nil && n.Status != vm.SnapshotReady {
		err = vm.ErrSnapshotNotReady.WithMeta("status", string(n.Status))
	}
	return source, err
}

// cloneOf makes the row of the clone: the source's, with a name, an owner and addresses of its own, and without what is plugged in.
func (s *Service) cloneOf(ctx context.Context, source store.Record, req CloneRequest) (store.Record, error) {
	p := caller(ctx)
	if !nameRule.MatchString(req.Name) {
		return store.Record{}, vm.ErrInvalid.WithField("body.name", invalidName, req.Name)
	}
	if req.Mode == "" {
		req.Mode = vm.CloneFull
	}
	if taken, err := s.store.NameTaken(ctx, p.TenantID, req.Name); err != nil || taken {
		return store.Record{}, errors.Join(err, nameTaken(taken, req.Name))
	}
	size := source.Disks[0].SizeBytes
	if req.DiskGiB != 0 {
		if err := shrinks(size, req.DiskGiB*gib); err != nil {
			return store.Record{}, vm.ErrInvalid.WithField("body.disk_gib", fmt.Sprintf("must be at least %d, which the source has", source.Resources.DiskGiB), fmt.Sprint(req.DiskGiB))
		}
		size = req.DiskGiB * gib
	}
	resources := source.Resources
	resources.DiskGiB = size / gib
	r := store.Record{
		VM: vm.VM{ID: newID(), Name: req.Name, State: vm.StateCreating, DesiredState: vm.DesiredRunning, HypervisorType: source.HypervisorType,
			NodeID: source.NodeID, OwnerID: p.UserID, TenantID: source.TenantID, ImageID: source.ImageID, Flavor: source.Flavor, Resources: resources,
			Disks: []vm.Disk{{Name: rootDisk, SizeBytes: size}}, Tags: maps.Clone(source.Tags), Generation: 1, Description: source.Description,
			Settings: settingsOfClone(source.Settings), Origin: &vm.Origin{VMID: source.ID, SnapshotID: req.SnapshotID, Mode: req.Mode}},
		UserData: source.UserData, SSHKeys: source.SSHKeys,
		// Not its host name, and not a configuration that may name its addresses.
		CloudInit: vm.CloudInit{VendorData: source.CloudInit.VendorData, PasswordHash: source.CloudInit.PasswordHash},
	}
	r.DeleteProtection = req.DeleteProtection
	if req.Stopped {
		r.DesiredState = vm.DesiredStopped
	}
	if req.Description != nil {
		r.Description = *req.Description
	}
	if req.Tags != nil {
		r.Tags = req.Tags
	}
	if req.UserData != nil {
		if err := checkUserData(*req.UserData, "body.user_data", vm.ErrInvalid); err != nil {
			return store.Record{}, err
		}
		r.UserData = *req.UserData
	}
	if req.SSHKeys != nil {
		keys, err := s.publicKeys(ctx, req.SSHKeys, "body.ssh_keys", vm.ErrInvalid)
		if err != nil {
			return store.Record{}, err
		}
		r.SSHKeys = keys
	}
	if req.Interfaces == nil {
		r.Networks = interfacesOfClone(source.Networks)
		return r, nil
	}
	var err error
	r.Networks, err = s.interfaces(ctx, req.Interfaces)
	return r, err
}

// settingsOfClone leaves out what is plugged in: volumes and discs.
func settingsOfClone(of vm.Settings) vm.Settings {
	isOwn := func(disk string) bool { return slices.Contains([]string{rootDisk, "cdrom", "network"}, disk) }
	of.CDROM.ImageID = nil
	of.BootOrder = slices.DeleteFunc(slices.Clone(of.BootOrder), func(disk string) bool { return !isOwn(disk) })
	of.IOLimits = maps.Clone(of.IOLimits)
	maps.DeleteFunc(of.IOLimits, func(disk string, _ vm.IOLimits) bool { return !isOwn(disk) })
	return of
}

// interfacesOfClone are on the same networks, with the same groups and limits, and get addresses of their own.
func interfacesOfClone(of []vm.Interface) []vm.Interface {
	nics := make([]vm.Interface, len(of))
	for i, nic := range of {
		nics[i] = vm.Interface{ID: newID(), NetworkID: nic.NetworkID, SecurityGroups: nic.SecurityGroups, Link: nic.Link, Bandwidth: nic.Bandwidth,
			Addresses: []string{}}
	}
	return nics
}

// cloneDisk has the node copy the root disk.
func (s *Service) cloneDisk(ctx context.Context, r store.Record) error {
	ctx, cancel := context.WithTimeout(ctx, cloneTimeout)
	defer cancel()
	_, err := nodeapi.Do[nodeapi.Empty](ctx, s.nodes, target(r), nodeapi.VerbCloneDisk, nodeapi.DiskClone{Name: rootDisk, Source: r.Origin.VMID,
		Snapshot: r.Origin.SnapshotID, Linked: r.Origin.Mode == vm.CloneLinked, SizeBytes: r.Disks[0].SizeBytes})
	return err
}
