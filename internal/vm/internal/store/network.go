package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// The kinds of the operations on networks.
const (
	KindNetworkCreate = "network.create"
	KindNetworkUpdate = "network.update"
	KindNetworkDelete = "network.delete"
)

// CreateNetwork writes a new network and the operation that makes it on the nodes.
func (s *Store) CreateNetwork(ctx context.Context, n vmdb.NetworkInsertParams, op operation.New) (NetworkRecord, error) {
	var created NetworkRecord
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		n.OperationID = &op.ID
		row, err := s.q.NetworkInsert(ctx, tx, n)
		if err != nil {
			switch constraint, _ := pg.Violation(err); constraint {
			case "vm_networks_name_key", "vm_networks_one_default":
				return vm.ErrNetworkTaken
			case "vm_networks_overlap", "vm_networks_overlap6":
				return vm.ErrNetworkOverlap
			}
			return err
		}
		created = networkOf(row)
		_, err = s.ops.Create(ctx, tx, op)
		return err
	})
	return created, err
}

// GetNetwork reads one network, whichever tenant it belongs to.
func (s *Store) GetNetwork(ctx context.Context, id uuid.UUID) (NetworkRecord, error) {
	row, err := s.q.NetworkGet(ctx, s.pool, id)
	if err != nil {
		return NetworkRecord{}, fmt.Errorf("read network: %w", mapNoRows(err, vm.ErrNetworkNotFound))
	}
	return networkOf(row), nil
}

// DefaultNetwork reads the tenant's default network.
func (s *Store) DefaultNetwork(ctx context.Context, tenant uuid.UUID) (NetworkRecord, error) {
	row, err := s.q.NetworkGetDefault(ctx, s.pool, tenant)
	if err != nil {
		return NetworkRecord{}, fmt.Errorf("read default network: %w", mapNoRows(err, vm.ErrNetworkNotFound))
	}
	return networkOf(row), nil
}

// ListNetworks lists the tenant's networks, newest first. An empty name stands for any, and so does nil for an owner.
func (s *Store) ListNetworks(ctx context.Context, tenant uuid.UUID, owner *uuid.UUID, name string, before time.Time, beforeID uuid.UUID, limit int) ([]vm.Network, error) {
	rows, err := s.q.NetworkList(ctx, s.pool, vmdb.NetworkListParams{TenantID: tenant, Owner: owner, Name: name, AfterTime: pageStart(before), AfterID: beforeID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", pg.Map(err))
	}
	networks := make([]vm.Network, len(rows))
	for i, row := range rows {
		networks[i] = networkOf(row).Network
	}
	return networks, nil
}

// UpdateNetwork changes a network's name and range of leases, and begins the operation that tells the nodes. version is what the caller has
// seen, nil any.
func (s *Store) UpdateNetwork(ctx context.Context, id uuid.UUID, version *int64, change func(n *NetworkRecord) error, op operation.New) (operation.Operation, error) {
	var begun operation.Operation
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.NetworkGetForUpdate(ctx, tx, id)
		if err != nil {
			return mapNoRows(err, vm.ErrNetworkNotFound)
		}
		if version != nil && *version != row.Version {
			return vm.ErrNetworkVersion
		}
		if row.OperationID != nil {
			live, err := s.ops.Get(ctx, *row.OperationID)
			if err != nil && !errors.Is(err, operation.ErrNotFound) {
				return err
			}
			if err == nil && live.EndedAt == nil {
				return vm.ErrNetworkBusy.WithMeta("operation_id", live.ID.String())
			}
		}
		n := networkOf(row)
		if err := change(&n); err != nil {
			return err
		}
		update := vmdb.NetworkUpdateParams{ID: id, Name: n.Name, OperationID: &op.ID}
		if n.DHCP != nil {
			update.DhcpStart, update.DhcpEnd = addrOf(n.DHCP.Start), addrOf(n.DHCP.End)
		}
		if row, err = s.q.NetworkUpdate(ctx, tx, update); err != nil {
			if constraint, _ := pg.Violation(err); constraint == "vm_networks_name_key" {
				return vm.ErrNetworkTaken
			}
			return err
		}
		if begun, err = s.ops.Create(ctx, tx, op); err != nil {
			return err
		}
		return tell(ctx, tx, networkTold(row), "updated", map[string]any{"operation_id": op.ID.String()})
	})
	return begun, err
}

// NetworkBefore is the input of operations of KindNetworkUpdate: what the network was.
type NetworkBefore struct {
	Name string   `json:"name"`
	DHCP *vm.DHCP `json:"dhcp,omitempty"`
}

// RestoreNetwork takes a change back. The name stays where somebody else has the one before by now.
func (s *Store) RestoreNetwork(ctx context.Context, id uuid.UUID, before NetworkBefore) error {
	restore := func(name string) error {
		return s.inTx(ctx, func(tx pgx.Tx) error {
			row, err := s.q.NetworkGetForUpdate(ctx, tx, id)
			if err != nil {
				return mapNoRows(err, vm.ErrNetworkNotFound)
			}
			update := vmdb.NetworkUpdateParams{ID: id, Name: cmp.Or(name, row.Name), OperationID: row.OperationID, DhcpStart: row.DhcpStart, DhcpEnd: row.DhcpEnd}
			if before.DHCP != nil {
				update.DhcpStart, update.DhcpEnd = addrOf(before.DHCP.Start), addrOf(before.DHCP.End)
			}
			_, err = s.q.NetworkUpdate(ctx, tx, update)
			if constraint, _ := pg.Violation(err); constraint == "vm_networks_name_key" {
				return vm.ErrNetworkTaken
			}
			return err
		})
	}
	err := restore(before.Name)
	if errors.Is(err, vm.ErrNetworkTaken) {
		err = restore("")
	}
	return err
}

// BeginDeleteNetwork begins to remove a network that nothing is connected to.
func (s *Store) BeginDeleteNetwork(ctx context.Context, id uuid.UUID, version *int64, op operation.New) (operation.Operation, error) {
	var begun operation.Operation
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.NetworkGetForUpdate(ctx, tx, id)
		if err != nil {
			return mapNoRows(err, vm.ErrNetworkNotFound)
		}
		if version != nil && *version != row.Version {
			return vm.ErrNetworkVersion
		}
		if row.OperationID != nil {
			live, err := s.ops.Get(ctx, *row.OperationID)
			switch {
			case errors.Is(err, operation.ErrNotFound):
			case err != nil:
				return err
			case live.EndedAt == nil && live.Kind == KindNetworkDelete:
				begun = live
				return nil
			case live.EndedAt == nil:
				return vm.ErrNetworkBusy.WithMeta("operation_id", live.ID.String())
			}
		}
		used, err := s.q.NetworkInUse(ctx, tx, id)
		if err != nil {
			return err
		}
		if used {
			return vm.ErrNetworkInUse
		}
		if _, err := s.q.NetworkSetStatus(ctx, tx, vmdb.NetworkSetStatusParams{ID: id, Status: string(vm.NetworkDeleting), OperationID: &op.ID}); err != nil {
			return err
		}
		begun, err = s.ops.Create(ctx, tx, op)
		return err
	})
	return begun, err
}

// EndNetwork is what the end of an operation on a network does to its row.
func (s *Store) EndNetwork(ctx context.Context, tx pgx.Tx, op operation.Operation) error {
	succeeded := op.Status == operation.StatusSucceeded
	var row vmdb.VmNetwork
	var err error
	if op.Kind != KindNetworkUpdate && (op.Kind == KindNetworkCreate) != succeeded { // a creation that failed, or a deletion that did not
		row, err = s.q.NetworkDelete(ctx, tx, op.TargetID)
	} else {
		row, err = s.q.NetworkSetStatus(ctx, tx, vmdb.NetworkSetStatusParams{ID: op.TargetID, Status: string(vm.NetworkActive)})
	}
	change, metadata := "failed", outcome(op)
	switch {
	case !succeeded:
	case op.Kind == KindNetworkCreate:
		change, metadata["mode"], metadata["cidr"] = "created", row.Mode, row.Cidr
	case op.Kind == KindNetworkDelete:
		change = "deleted"
	default: // told when its row was changed
		return ignoreGone(err)
	}
	return tellRow(ctx, tx, row, err, networkTold, change, metadata)
}

// NetworkCIDRs lists the ranges that are taken, whichever tenants have them.
func (s *Store) NetworkCIDRs(ctx context.Context) ([]netip.Prefix, error) {
	taken, err := s.q.NetworkCIDRs(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("list address ranges: %w", pg.Map(err))
	}
	return taken, nil
}
