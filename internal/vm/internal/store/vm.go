package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// ErrMACTaken says that a random MAC address exists already; draw another.
var ErrMACTaken = errors.New("store: the MAC address is taken")

// CreateVM writes a new virtual machine and the operation that makes it, in one transaction.
func (s *Store) CreateVM(ctx context.Context, r Record, op operation.New) (operation.Operation, error) {
	var created operation.Operation
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		err := s.q.VMInsert(ctx, tx, vmdb.VMInsertParams{
			ID: r.ID, Name: r.Name, HypervisorType: r.HypervisorType, NodeID: r.NodeID, OwnerID: r.OwnerID, TenantID: r.TenantID,
			ResourceConfig: mustJSON(r.Resources), NetworkConfig: mustJSON(r.Networks), StorageConfig: mustJSON(r.Disks),
			ImageID: r.ImageID, Flavor: r.Flavor, UserData: r.UserData, SshKeys: mustJSON(r.SSHKeys), Tags: mustJSON(r.Tags),
			DesiredState: string(r.DesiredState), OperationID: &op.ID, Description: r.Description, Settings: mustJSON(r.Settings),
			Origin: jsonOrNull(r.Origin), CloudInit: mustJSON(r.CloudInit),
		})
		if err != nil {
			return vmViolation(err)
		}
		for _, nic := range r.Networks {
			if err := s.insertInterface(ctx, tx, r, nic); err != nil {
				return err
			}
		}
		created, err = s.ops.Create(ctx, tx, op)
		return err
	})
	return created, err
}

// vmViolation names what a constraint of the tables vms and vm_macs means.
func vmViolation(err error) error {
	switch constraint, _ := pg.Violation(err); constraint {
	case "vms_name_key":
		return vm.ErrNameTaken
	case "vms_image_id_fkey", "vms_rebuild_image_id_fkey", "vms_rescue_image_id_fkey", "vm_media_image_id_fkey":
		return vm.ErrImageNotFound
	case "vm_macs_network_fkey":
		return vm.ErrNetworkNotFound
	case "vm_macs_pkey":
		return ErrMACTaken
	case "vm_macs_ip_key":
		return vm.ErrAddressTaken
	default:
		return err
	}
}

// GetVM reads one virtual machine, whichever tenant it belongs to.
func (s *Store) GetVM(ctx context.Context, id uuid.UUID) (Record, error) {
	row, err := s.q.VMGet(ctx, s.pool, id)
	if err != nil {
		return Record{}, fmt.Errorf("read virtual machine: %w", mapNoRows(err, vm.ErrNotFound))
	}
	return recordOf(row)
}

// NameTaken tells whether the tenant has a virtual machine of this name.
func (s *Store) NameTaken(ctx context.Context, tenant uuid.UUID, name string) (bool, error) {
	taken, err := s.q.VMNameTaken(ctx, s.pool, vmdb.VMNameTakenParams{TenantID: tenant, Name: name})
	return taken, pg.Map(err)
}

// pageStart turns the zero time into one that is later than every row.
func pageStart(t time.Time) time.Time {
	if t.IsZero() {
		return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t
}

// SetProvisioned notes that disks and domain exist, unless a newer generation has taken over.
func (s *Store) SetProvisioned(ctx context.Context, id uuid.UUID, generation int64) error {
	_, err := s.q.VMSetProvisioned(ctx, s.pool, vmdb.VMSetProvisionedParams{ID: id, Generation: generation})
	return pg.Map(err)
}
