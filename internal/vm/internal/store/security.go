package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// MaxRules bounds a security group.
const MaxRules = 200

func groupOf(row vmdb.SecurityGroup, rules []vmdb.SecurityGroupRule) vm.SecurityGroup {
	g := vm.SecurityGroup{ID: row.ID, Name: row.Name, Description: row.Description, Default: row.IsDefault, Rules: []vm.SecurityRule{},
		Version: row.Version, OwnerID: row.OwnerID, TenantID: row.TenantID, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}
	for _, r := range rules {
		if r.GroupID == g.ID {
			g.Rules = append(g.Rules, ruleOf(r))
		}
	}
	return g
}

func ruleOf(row vmdb.SecurityGroupRule) vm.SecurityRule {
	r := vm.SecurityRule{ID: row.ID, Direction: row.Direction, Protocol: row.Protocol, PortMin: int(row.PortMin), PortMax: int(row.PortMax),
		RemoteGroupID: row.RemoteGroupID, CreatedAt: row.CreatedAt.UTC()}
	if row.RemoteCidr != nil {
		r.RemoteCIDR = row.RemoteCidr.String()
	}
	return r
}

// groupViolation names what a constraint of the tables of security groups means.
func groupViolation(err error) error {
	switch constraint, _ := pg.Violation(err); constraint {
	case "security_groups_name_key", "security_groups_one_default":
		return vm.ErrGroupTaken
	case "security_group_rules_key":
		return vm.ErrRuleExists
	case "security_group_rules_remote_fkey", "vm_mac_groups_group_fkey":
		return vm.ErrGroupInUse
	default:
		return err
	}
}

// CreateGroup writes a security group with its rules. A rule whose remote group is the zero id refers to the group itself.
func (s *Store) CreateGroup(ctx context.Context, g vm.SecurityGroup) (vm.SecurityGroup, error) {
	var created vm.SecurityGroup
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.GroupInsert(ctx, tx, vmdb.GroupInsertParams{ID: g.ID, TenantID: g.TenantID, OwnerID: g.OwnerID, Name: g.Name,
			Description: g.Description, IsDefault: g.Default})
		if err != nil {
			return groupViolation(err)
		}
		created = groupOf(row, nil)
		for _, r := range g.Rules {
			rule, err := s.insertRule(ctx, tx, g.TenantID, g.ID, r)
			if err != nil {
				return err
			}
			created.Rules = append(created.Rules, rule)
		}
		return tell(ctx, tx, groupTold(row), "created", nil)
	})
	return created, err
}

// insertRule writes a rule; the group that it refers to must be of the tenant.
func (s *Store) insertRule(ctx context.Context, tx pgx.Tx, tenant, group uuid.UUID, r vm.SecurityRule) (vm.SecurityRule, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return r, fmt.Errorf("make id: %w", err)
	}
	n := vmdb.RuleInsertParams{ID: id, GroupID: group, Direction: r.Direction, Protocol: r.Protocol, PortMin: int32(r.PortMin), PortMax: int32(r.PortMax)}
	if r.RemoteCIDR != "" {
		prefix, err := netip.ParsePrefix(r.RemoteCIDR)
		if err != nil {
			return r, vm.ErrGroupInvalid.WithField("body.remote_cidr", "is no range", r.RemoteCIDR)
		}
		n.RemoteCidr = &prefix
	}
	if r.RemoteGroupID != nil {
		remote := *r.RemoteGroupID
		if remote == uuid.Nil {
			remote = group
		}
		found, err := s.q.GroupsExisting(ctx, tx, vmdb.GroupsExistingParams{TenantID: tenant, Ids: []uuid.UUID{remote}})
		if err != nil {
			return r, err
		}
		if len(found) == 0 {
			return r, vm.ErrGroupNotFound
		}
		n.RemoteGroupID = &remote
	}
	row, err := s.q.RuleInsert(ctx, tx, n)
	if err != nil {
		return r, groupViolation(err)
	}
	return ruleOf(row), nil
}

// GetGroup reads one security group, whichever tenant it belongs to.
func (s *Store) GetGroup(ctx context.Context, id uuid.UUID) (vm.SecurityGroup, error) {
	row, err := s.q.GroupGet(ctx, s.pool, id)
	if err != nil {
		return vm.SecurityGroup{}, fmt.Errorf("read security group: %w", mapNoRows(err, vm.ErrGroupNotFound))
	}
	return s.withRules(ctx, row)
}

// DefaultGroup reads the tenant's default security group.
func (s *Store) DefaultGroup(ctx context.Context, tenant uuid.UUID) (vm.SecurityGroup, error) {
	row, err := s.q.GroupGetDefault(ctx, s.pool, tenant)
	if err != nil {
		return vm.SecurityGroup{}, fmt.Errorf("read default security group: %w", mapNoRows(err, vm.ErrGroupNotFound))
	}
	return s.withRules(ctx, row)
}

func (s *Store) withRules(ctx context.Context, row vmdb.SecurityGroup) (vm.SecurityGroup, error) {
	rules, err := s.q.RulesOf(ctx, s.pool, []uuid.UUID{row.ID})
	if err != nil {
		return vm.SecurityGroup{}, fmt.Errorf("read rules: %w", pg.Map(err))
	}
	return groupOf(row, rules), nil
}

// ListGroups lists the tenant's security groups, newest first. An empty name stands for any; with an owner it lists those of
// theirs and the default one.
func (s *Store) ListGroups(ctx context.Context, tenant uuid.UUID, owner *uuid.UUID, name string, before time.Time, beforeID uuid.UUID, limit int) ([]vm.SecurityGroup, error) {
	rows, err := s.q.GroupList(ctx, s.pool, vmdb.GroupListParams{TenantID: tenant, OwnerID: owner, Name: name, AfterTime: pageStart(before), AfterID: beforeID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list security groups: %w", pg.Map(err))
	}
	ids := make([]uuid.UUID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	rules, err := s.q.RulesOf(ctx, s.pool, ids)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", pg.Map(err))
	}
	groups := make([]vm.SecurityGroup, len(rows))
	for i := range rows {
		groups[i] = groupOf(rows[i], rules)
	}
	return groups, nil
}

// changeGroup locks a group and changes it.
func (s *Store) changeGroup(ctx context.Context, id uuid.UUID, change func(tx pgx.Tx, row vmdb.SecurityGroup) error) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.GroupGetForUpdate(ctx, tx, id)
		if err != nil {
			return mapNoRows(err, vm.ErrGroupNotFound)
		}
		return change(tx, row)
	})
}

// UpdateGroup changes name and description; version is what the caller has seen, nil any.
func (s *Store) UpdateGroup(ctx context.Context, id uuid.UUID, name, description *string, version *int64) error {
	return s.changeGroup(ctx, id, func(tx pgx.Tx, row vmdb.SecurityGroup) error {
		if version != nil && *version != row.Version {
			return vm.ErrGroupVersion
		}
		n := vmdb.GroupUpdateParams{ID: id, Name: row.Name, Description: row.Description}
		if name != nil {
			n.Name = *name
		}
		if description != nil {
			n.Description = *description
		}
		row, err := s.q.GroupUpdate(ctx, tx, n)
		if err != nil {
			return groupViolation(err)
		}
		return tell(ctx, tx, groupTold(row), "updated", map[string]any{"change": "details", "description": row.Description})
	})
}

// DeleteGroup removes a group that nothing refers to; version is what the caller has seen, nil any.
func (s *Store) DeleteGroup(ctx context.Context, id uuid.UUID, version *int64) error {
	return s.changeGroup(ctx, id, func(tx pgx.Tx, row vmdb.SecurityGroup) error {
		if version != nil && *version != row.Version {
			return vm.ErrGroupVersion
		}
		if row.IsDefault {
			return vm.ErrGroupDefault
		}
		referenced, err := s.q.GroupReferenced(ctx, tx, id)
		if err != nil {
			return err
		}
		if referenced {
			return vm.ErrGroupInUse
		}
		if err := s.q.GroupDelete(ctx, tx, id); err != nil {
			return groupViolation(err)
		}
		return tell(ctx, tx, groupTold(row), "deleted", nil)
	})
}

// AddRule adds a rule to a group.
func (s *Store) AddRule(ctx context.Context, id uuid.UUID, r vm.SecurityRule) (added vm.SecurityRule, err error) {
	err = s.changeGroup(ctx, id, func(tx pgx.Tx, row vmdb.SecurityGroup) error {
		count, err := s.q.RuleCount(ctx, tx, id)
		if err != nil {
			return err
		}
		if count >= MaxRules {
			return vm.ErrRuleTooMany
		}
		if added, err = s.insertRule(ctx, tx, row.TenantID, id, r); err != nil {
			return err
		}
		return s.tellOfRule(ctx, tx, row, "rule.added", added.ID)
	})
	return added, err
}

// RemoveRule removes a rule from a group.
func (s *Store) RemoveRule(ctx context.Context, group, rule uuid.UUID) error {
	return s.changeGroup(ctx, group, func(tx pgx.Tx, row vmdb.SecurityGroup) error {
		n, err := s.q.RuleDelete(ctx, tx, vmdb.RuleDeleteParams{ID: rule, GroupID: group})
		if err != nil {
			return err
		}
		if n == 0 {
			return vm.ErrRuleNotFound
		}
		return s.tellOfRule(ctx, tx, row, "rule.removed", rule)
	})
}

// tellOfRule tells of a rule that a group got or lost.
func (s *Store) tellOfRule(ctx context.Context, tx pgx.Tx, group vmdb.SecurityGroup, change string, rule uuid.UUID) error {
	if err := s.q.GroupTouch(ctx, tx, group.ID); err != nil {
		return err
	}
	return tell(ctx, tx, groupTold(group), "updated", map[string]any{"change": change, "rule_id": rule.String()})
}

// ForwardRecord is a port forward with its interface's MAC.
type ForwardRecord struct {
	vm.PortForward
	MAC string
}

func forwardOf(row vmdb.PortForward) ForwardRecord {
	f := ForwardRecord{MAC: row.Mac, PortForward: vm.PortForward{ID: row.ID, VMID: row.VmID, Protocol: row.Protocol, HostPort: int(row.HostPort),
		GuestPort: int(row.GuestPort), OwnerID: row.OwnerID, TenantID: row.TenantID, CreatedAt: row.CreatedAt.UTC()}}
	if row.Source != nil {
		f.SourceCIDR = row.Source.String()
	}
	return f
}

// CreateForward writes a port forward.
func (s *Store) CreateForward(ctx context.Context, f ForwardRecord) (ForwardRecord, error) {
	n := vmdb.ForwardInsertParams{ID: f.ID, TenantID: f.TenantID, OwnerID: f.OwnerID, VmID: f.VMID, Mac: f.MAC, Protocol: f.Protocol,
		HostPort: int32(f.HostPort), GuestPort: int32(f.GuestPort)}
	if f.SourceCIDR != "" {
		prefix, err := netip.ParsePrefix(f.SourceCIDR)
		if err != nil {
			return f, vm.ErrForwardInvalid.WithField("body.source_cidr", "is no range", f.SourceCIDR)
		}
		n.Source = &prefix
	}
	var row vmdb.PortForward
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		if row, err = s.q.ForwardInsert(ctx, tx, n); err != nil {
			return err
		}
		return tell(ctx, tx, forwardTold(row), "created", map[string]any{"protocol": row.Protocol, "host_port": row.HostPort, "guest_port": row.GuestPort})
	})
	if err != nil {
		switch constraint, _ := pg.Violation(err); constraint {
		case "port_forwards_host_key":
			return f, vm.ErrForwardTaken
		case "port_forwards_vm_fkey":
			return f, vm.ErrNotFound
		case "port_forwards_mac_fkey":
			return f, vm.ErrInterfaceNotFound
		}
		return f, fmt.Errorf("write port forward: %w", pg.Map(err))
	}
	return forwardOf(row), nil
}

// GetForward reads a port forward, whichever tenant it belongs to.
func (s *Store) GetForward(ctx context.Context, id uuid.UUID) (ForwardRecord, error) {
	row, err := s.q.ForwardGet(ctx, s.pool, id)
	if err != nil {
		return ForwardRecord{}, fmt.Errorf("read port forward: %w", mapNoRows(err, vm.ErrForwardNotFound))
	}
	return forwardOf(row), nil
}

// ListForwards lists the tenant's port forwards, newest first; of one virtual machine, or of all.
func (s *Store) ListForwards(ctx context.Context, tenant uuid.UUID, owner, vmID *uuid.UUID, before time.Time, beforeID uuid.UUID, limit int) ([]ForwardRecord, error) {
	rows, err := s.q.ForwardList(ctx, s.pool, vmdb.ForwardListParams{TenantID: tenant, OwnerID: owner, VmID: vmID, AfterTime: pageStart(before), AfterID: beforeID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list port forwards: %w", pg.Map(err))
	}
	list := make([]ForwardRecord, len(rows))
	for i := range rows {
		list[i] = forwardOf(rows[i])
	}
	return list, nil
}

// DeleteForward removes a port forward.
func (s *Store) DeleteForward(ctx context.Context, id uuid.UUID) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.ForwardDelete(ctx, tx, id)
		if err != nil {
			return mapNoRows(err, vm.ErrForwardNotFound)
		}
		return tell(ctx, tx, forwardTold(row), "deleted", nil)
	})
}
