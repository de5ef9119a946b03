package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// The kinds of the operations on interfaces.
const (
	KindInterfaceAttach = "vm.interface.attach"
	KindInterfaceUpdate = "vm.interface.update"
	KindInterfaceDetach = "vm.interface.detach"
)

func addrOf(text string) *netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	return &a
}

// insertInterface writes the row of an interface with its groups, which must be of the tenant.
func (s *Store) insertInterface(ctx context.Context, tx pgx.Tx, r Record, nic vm.Interface) error {
	n := vmdb.VMMACInsertParams{Mac: nic.MAC, VmID: r.ID, ID: nic.ID, Ip: addrOf(nic.IPAddress), Ip6: addrOf(nic.IPv6Address),
		LinkDown: nic.Link == vm.LinkDown, NetworkID: nic.NetworkID}
	if nic.Bandwidth != nil {
		n.InKbps, n.OutKbps = nic.Bandwidth.InKbps, nic.Bandwidth.OutKbps
	}
	rows, err := s.q.VMMACInsert(ctx, tx, n)
	if err != nil {
		return vmViolation(err)
	}
	if rows == 0 { // gone, or about to go
		return vm.ErrNetworkNotFound
	}
	return s.insertGroups(ctx, tx, r.TenantID, nic)
}

func (s *Store) insertGroups(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, nic vm.Interface) error {
	found, err := s.q.GroupsExisting(ctx, tx, vmdb.GroupsExistingParams{TenantID: tenant, Ids: nic.SecurityGroups})
	if err != nil {
		return err
	}
	for _, id := range nic.SecurityGroups {
		if !slices.Contains(found, id) {
			return vm.ErrGroupNotFound
		}
		if err := s.q.MACGroupInsert(ctx, tx, vmdb.MACGroupInsertParams{Mac: nic.MAC, GroupID: id}); err != nil {
			return groupViolation(err)
		}
	}
	return nil
}

func (s *Store) setNetworks(ctx context.Context, tx pgx.Tx, id uuid.UUID, nics []vm.Interface) error {
	return s.q.VMSetNetworks(ctx, tx, vmdb.VMSetNetworksParams{ID: id, NetworkConfig: mustJSON(nics)})
}

// Adding writes a new interface with its intent.
func (s *Store) Adding(nic vm.Interface) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, op operation.Operation) error {
		nic.OperationID = &op.ID
		if err := s.insertInterface(ctx, tx, r, nic); err != nil {
			return err
		}
		return s.setNetworks(ctx, tx, r.ID, append(r.Networks, nic))
	}
}

// Changing writes a changed interface with its intent.
func (s *Store) Changing(nic vm.Interface) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, op operation.Operation) error {
		at := slices.IndexFunc(r.Networks, func(have vm.Interface) bool { return have.ID == nic.ID })
		if at < 0 {
			return vm.ErrInterfaceNotFound
		}
		n := vmdb.MACUpdateParams{ID: nic.ID, VmID: r.ID, LinkDown: nic.Link == vm.LinkDown}
		if nic.Bandwidth != nil {
			n.InKbps, n.OutKbps = nic.Bandwidth.InKbps, nic.Bandwidth.OutKbps
		}
		if _, err := s.q.MACUpdate(ctx, tx, n); err != nil {
			return err
		}
		if err := s.q.MACGroupsDelete(ctx, tx, nic.MAC); err != nil {
			return err
		}
		if err := s.insertGroups(ctx, tx, r.TenantID, nic); err != nil {
			return err
		}
		nic.Addresses, nic.OperationID = r.Networks[at].Addresses, &op.ID
		r.Networks[at] = nic
		return s.setNetworks(ctx, tx, r.ID, r.Networks)
	}
}

// Removing forgets an interface with its intent: from then on it is not wanted, whatever becomes of the operation.
func (s *Store) Removing(id uuid.UUID) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, _ operation.Operation) error {
		return s.removeInterface(ctx, tx, r, id)
	}
}

func (s *Store) removeInterface(ctx context.Context, tx pgx.Tx, r Record, id uuid.UUID) error {
	left := slices.DeleteFunc(slices.Clone(r.Networks), func(have vm.Interface) bool { return have.ID == id })
	closed, err := s.q.ForwardDeleteOf(ctx, tx, vmdb.ForwardDeleteOfParams{VmID: r.ID, InterfaceID: &id})
	if err != nil {
		return err
	}
	if _, err := s.q.MACDelete(ctx, tx, vmdb.MACDeleteParams{ID: id, VmID: r.ID}); err != nil {
		return err
	}
	if err := s.setNetworks(ctx, tx, r.ID, left); err != nil {
		return err
	}
	for _, row := range closed {
		if err := tell(ctx, tx, forwardTold(row), "deleted", nil); err != nil {
			return err
		}
	}
	return nil
}

// EndInterface is what the end of an operation on an interface does: one that could not be plugged in is forgotten again, unless a newer
// intent has taken over, which gives the guest what its row says.
func (s *Store) EndInterface(ctx context.Context, tx pgx.Tx, op operation.Operation) error {
	row, err := s.q.VMGetForUpdate(ctx, tx, op.TargetID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := recordOf(row)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(r.Networks, func(n vm.Interface) bool { return n.OperationID != nil && *n.OperationID == op.ID })
	switch {
	case at < 0:
	case op.Kind == KindInterfaceAttach && op.Status != operation.StatusSucceeded && !errors.Is(asError(op.Error), operation.ErrSuperseded):
		err = s.removeInterface(ctx, tx, r, r.Networks[at].ID)
	default:
		r.Networks[at].OperationID = nil
		err = s.setNetworks(ctx, tx, r.ID, r.Networks)
	}
	if err != nil {
		return err
	}
	return s.EndVM(ctx, tx, op)
}

// NetworkAddresses lists the addresses that interfaces of a network have.
func (s *Store) NetworkAddresses(ctx context.Context, network uuid.UUID) (map[netip.Addr]bool, error) {
	list, err := s.q.NetworkAddresses(ctx, s.pool, network)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", pg.Map(err))
	}
	taken := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		taken[a] = true
	}
	return taken, nil
}
