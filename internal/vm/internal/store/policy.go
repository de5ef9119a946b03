package store

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Policy makes the whole policy of a node, without the virtual machine that is named, which is about to go. Its version is taken under a
// lock before anything is read: of two policies, the one with the higher version has seen all that the other has.
func (s *Store) Policy(ctx context.Context, node, without uuid.UUID) (nodeapi.Policy, error) {
	var p nodeapi.Policy
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		p = nodeapi.Policy{}
		if p.Version, err = s.q.PolicyLock(ctx, tx, node); err != nil {
			return err
		}
		at := map[uuid.UUID]int{}
		networks, err := s.q.PolicyNetworks(ctx, tx)
		if err != nil {
			return err
		}
		for _, row := range networks {
			n := networkOf(row)
			at[n.ID] = len(p.Networks)
			p.Networks = append(p.Networks, nodeapi.PolicyNetwork{ID: n.ID, Mode: string(n.Mode), Bridge: n.Bridge, CIDR: n.CIDR, Gateway: n.Gateway,
				CIDR6: n.IPv6CIDR, Gateway6: n.IPv6Gateway})
		}
		return s.policyOf(ctx, tx, node, without, at, &p)
	})
	if err != nil {
		return p, fmt.Errorf("make the policy of node %s: %w", node, err)
	}
	return p, nil
}

func text(a *netip.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

func (s *Store) policyOf(ctx context.Context, tx pgx.Tx, node, without uuid.UUID, networks map[uuid.UUID]int, p *nodeapi.Policy) error {
	nics, err := s.q.PolicyInterfaces(ctx, tx, vmdb.PolicyInterfacesParams{NodeID: &node, Without: without})
	if err != nil {
		return err
	}
	attached, err := s.q.PolicyGroups(ctx, tx, &node)
	if err != nil {
		return err
	}
	groups := map[string][]uuid.UUID{}
	for _, a := range attached {
		groups[a.Mac] = append(groups[a.Mac], a.GroupID)
	}
	var wanted []uuid.UUID
	seen := map[uuid.UUID]bool{}
	want := func(id uuid.UUID) {
		if !seen[id] {
			seen[id] = true
			wanted = append(wanted, id)
		}
	}
	for _, nic := range nics {
		i, ok := networks[nic.NetworkID]
		if !ok {
			continue // about to go
		}
		p.Interfaces = append(p.Interfaces, nodeapi.PolicyInterface{MAC: nic.Mac, NetworkID: nic.NetworkID, IP: text(nic.Ip), IP6: text(nic.Ip6),
			Down: nic.LinkDown, InKbps: nic.InKbps, OutKbps: nic.OutKbps, Groups: groups[nic.Mac]})
		if n := &p.Networks[i]; nic.Ip != nil && n.CIDR != "" {
			n.Hosts = append(n.Hosts, nodeapi.NetworkHost{MAC: nic.Mac, IP: text(nic.Ip), IP6: text(nic.Ip6), Name: nic.VmName})
		}
		for _, id := range groups[nic.Mac] {
			want(id)
		}
	}
	if err := s.policyGroups(ctx, tx, wanted, p); err != nil {
		return err
	}
	forwards, err := s.q.PolicyForwards(ctx, tx, vmdb.PolicyForwardsParams{NodeID: &node, Without: without})
	if err != nil {
		return err
	}
	for _, f := range forwards {
		if f.Ip == nil {
			continue
		}
		forward := nodeapi.PolicyForward{MAC: f.Mac, Protocol: f.Protocol, HostPort: int(f.HostPort), GuestIP: text(f.Ip), GuestPort: int(f.GuestPort)}
		if f.Source != nil {
			forward.Source = f.Source.String()
		}
		p.Forwards = append(p.Forwards, forward)
	}
	return nil
}

// policyGroups adds the groups of the node's interfaces, and those that their rules refer to with the addresses of their members.
func (s *Store) policyGroups(ctx context.Context, tx pgx.Tx, attached []uuid.UUID, p *nodeapi.Policy) error {
	rules, err := s.q.RulesOf(ctx, tx, attached)
	if err != nil {
		return err
	}
	of := map[uuid.UUID][]nodeapi.PolicyRule{}
	var remote []uuid.UUID
	isRemote := map[uuid.UUID]bool{}
	for _, row := range rules {
		r := nodeapi.PolicyRule{Direction: row.Direction, Protocol: row.Protocol, PortMin: int(row.PortMin), PortMax: int(row.PortMax)}
		if row.RemoteCidr != nil {
			r.CIDR = row.RemoteCidr.String()
		}
		if row.RemoteGroupID != nil {
			r.GroupID = *row.RemoteGroupID
			if !isRemote[r.GroupID] {
				isRemote[r.GroupID] = true
				remote = append(remote, r.GroupID)
			}
		}
		of[row.GroupID] = append(of[row.GroupID], r)
	}
	members, err := s.q.PolicyMembers(ctx, tx, remote)
	if err != nil {
		return err
	}
	addresses := map[uuid.UUID][]string{}
	for _, m := range members {
		for _, a := range []*netip.Addr{m.Ip, m.Ip6} {
			if a != nil {
				addresses[m.GroupID] = append(addresses[m.GroupID], a.String())
			}
		}
	}
	all := append([]uuid.UUID{}, attached...)
	for _, id := range attached {
		delete(isRemote, id)
	}
	for _, id := range remote {
		if isRemote[id] {
			all = append(all, id)
		}
	}
	for _, id := range all {
		p.Groups = append(p.Groups, nodeapi.PolicyGroup{ID: id, Rules: of[id], Members: addresses[id]})
	}
	return nil
}
