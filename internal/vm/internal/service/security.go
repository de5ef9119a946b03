package service

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// defaultGroup answers the tenant's default security group, which is made when the tenant first needs it: everything out, and in what
// comes from its own members.
func (s *Service) defaultGroup(ctx context.Context) (vm.SecurityGroup, error) {
	p := caller(ctx)
	g, err := s.store.DefaultGroup(ctx, p.TenantID)
	if !errors.Is(err, vm.ErrGroupNotFound) {
		return g, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return g, fmt.Errorf("make id: %w", err)
	}
	own := uuid.Nil // the group itself
	for _, name := range []string{"default", "default-" + id.String()[24:]} {
		g, err = s.store.CreateGroup(ctx, vm.SecurityGroup{ID: id, Name: name, Description: "Everything out; in from members of this group.", Default: true,
			TenantID: p.TenantID, OwnerID: p.UserID, Rules: []vm.SecurityRule{{Direction: nodeapi.Egress, Protocol: "any"},
				{Direction: nodeapi.Ingress, Protocol: "any", RemoteGroupID: &own}}})
		if !errors.Is(err, vm.ErrGroupTaken) {
			return g, err
		}
		if g, err = s.store.DefaultGroup(ctx, p.TenantID); err == nil { // another request was quicker
			return g, nil
		}
	}
	return g, err
}

// checkRule checks a rule as a client wrote it, and writes its range as it is kept.
func checkRule(r *vm.SecurityRule, at string) error {
	bad := func(field, why, value string) error { return vm.ErrGroupInvalid.WithField(at+field, why, value) }
	if r.PortMax == 0 {
		r.PortMax = r.PortMin
	}
	hasPorts := r.Protocol == "tcp" || r.Protocol == "udp"
	switch {
	case !hasPorts && (r.PortMin != 0 || r.PortMax != 0):
		return bad("port_min", "only tcp and udp have ports", fmt.Sprint(r.PortMin))
	case r.PortMin == 0 && r.PortMax != 0:
		return bad("port_min", "is needed where port_max is given", "0")
	case r.PortMax < r.PortMin:
		return bad("port_max", "must not come before port_min", fmt.Sprint(r.PortMax))
	case r.RemoteCIDR != "" && r.RemoteGroupID != nil:
		return bad("remote_cidr", "a rule names a range or a group, not both", r.RemoteCIDR)
	}
	if r.RemoteCIDR == "" {
		return nil
	}
	prefix, err := netip.ParsePrefix(r.RemoteCIDR)
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return bad("remote_cidr", "must be a range such as 192.0.2.0/24 or 2001:db8::/32", r.RemoteCIDR)
	case prefix != prefix.Masked():
		return bad("remote_cidr", "must begin at its network address "+prefix.Masked().String(), r.RemoteCIDR)
	case r.Protocol == "icmp" && !prefix.Addr().Is4(), r.Protocol == "icmpv6" && prefix.Addr().Is4():
		return bad("remote_cidr", "is of another version of IP than the protocol", r.RemoteCIDR)
	}
	r.RemoteCIDR = prefix.String()
	return nil
}

func checkName(name string, invalid func(field, why, value string) error) error {
	if !nameRule.MatchString(name) {
		return invalid("body.name", "must be an RFC 1123 label: 1 to 63 of a-z, 0-9 and '-', not at either end", name)
	}
	return nil
}

func groupInvalid(field, why, value string) error {
	return vm.ErrGroupInvalid.WithField(field, why, value)
}

// CreateGroup makes a security group.
func (s *Service) CreateGroup(ctx context.Context, name, description string, rules []vm.SecurityRule) (vm.SecurityGroup, error) {
	if err := checkName(name, groupInvalid); err != nil {
		return vm.SecurityGroup{}, err
	}
	if len(rules) > store.MaxRules {
		return vm.SecurityGroup{}, vm.ErrRuleTooMany
	}
	for i := range rules {
		if err := checkRule(&rules[i], fmt.Sprintf("body.rules[%d].", i)); err != nil {
			return vm.SecurityGroup{}, err
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return vm.SecurityGroup{}, fmt.Errorf("make id: %w", err)
	}
	p := caller(ctx)
	return s.store.CreateGroup(ctx, vm.SecurityGroup{ID: id, Name: name, Description: description, Rules: rules, TenantID: p.TenantID, OwnerID: p.UserID})
}

// GetGroup reads a security group that the caller may know.
func (s *Service) GetGroup(ctx context.Context, id uuid.UUID) (vm.SecurityGroup, error) {
	g, err := s.store.GetGroup(ctx, id)
	if err == nil && !g.Default && !readable(ctx, g.TenantID, g.OwnerID, "security-group:read") ||
		err == nil && !visible(ctx, g.TenantID, "security-group:read") {
		return vm.SecurityGroup{}, vm.ErrGroupNotFound
	}
	return g, err
}

// group reads a security group that the caller may change.
func (s *Service) group(ctx context.Context, id uuid.UUID, permission string) (vm.SecurityGroup, error) {
	g, err := s.store.GetGroup(ctx, id)
	if err == nil {
		err = permitted(ctx, g.TenantID, g.OwnerID, permission, "security-group:read", vm.ErrGroupNotFound)
	}
	return g, err
}

// ListGroups lists the security groups of the caller's tenant. The default group is made before the first list.
func (s *Service) ListGroups(ctx context.Context, name string, after *httpx.Cursor, limit int) ([]vm.SecurityGroup, error) {
	if _, err := s.defaultGroup(ctx); err != nil {
		return nil, err
	}
	before, beforeID := position(after)
	p := caller(ctx)
	return s.store.ListGroups(ctx, p.TenantID, p.OwnerFilter("security-group:read"), name, before, beforeID, limit)
}

// UpdateGroup changes name and description; version is what the caller has seen, nil any.
func (s *Service) UpdateGroup(ctx context.Context, id uuid.UUID, name, description *string, version *int64) (vm.SecurityGroup, error) {
	g, err := s.group(ctx, id, "security-group:update")
	if err != nil {
		return g, err
	}
	if name != nil {
		if err := checkName(*name, groupInvalid); err != nil {
			return g, err
		}
	}
	if err := s.store.UpdateGroup(ctx, id, name, description, version); err != nil {
		return g, err
	}
	return s.store.GetGroup(ctx, id)
}

// DeleteGroup removes a security group that nothing refers to; seen is the version that the caller has seen, nil any.
func (s *Service) DeleteGroup(ctx context.Context, id uuid.UUID, seen *int64) error {
	if _, err := s.group(ctx, id, "security-group:delete"); err != nil {
		return err
	}
	if err := s.store.DeleteGroup(ctx, id, seen); err != nil {
		return err
	}
	s.rulesChanged(ctx)
	return nil
}

// AddRule adds a rule, in force on running guests when it comes back.
func (s *Service) AddRule(ctx context.Context, id uuid.UUID, r vm.SecurityRule) (vm.SecurityRule, error) {
	if _, err := s.group(ctx, id, "security-group:update"); err != nil {
		return r, err
	}
	if err := checkRule(&r, "body."); err != nil {
		return r, err
	}
	added, err := s.store.AddRule(ctx, id, r)
	if err != nil {
		return r, err
	}
	s.rulesChanged(ctx)
	return added, nil
}

// RemoveRule takes a rule away, also from connections that are open.
func (s *Service) RemoveRule(ctx context.Context, id, rule uuid.UUID) error {
	if _, err := s.group(ctx, id, "security-group:update"); err != nil {
		return err
	}
	if err := s.store.RemoveRule(ctx, id, rule); err != nil {
		return err
	}
	s.rulesChanged(ctx)
	return nil
}
