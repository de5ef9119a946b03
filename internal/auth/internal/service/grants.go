package service

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Grants are what a principal may do in one tenant. All lists are sorted.
type Grants struct {
	Roles       []string // that give them, by name
	Permissions []string // all of them
	Projects    []string // those that count in the projects of the tenant too, where it has some
	Platform    []string // those that count in every tenant
}

// None tells whether no role counts there at all.
func (g Grants) None() bool { return len(g.Roles) == 0 }

// grants is the one place that says what a principal may do in a tenant: by the role of their account, which counts at home alone unless it
// reaches every tenant by itself, and by bindings. In a tenant that is absent or disabled nobody may do anything; evenDisabled asks what they
// could.
func (s *Service) grants(ctx context.Context, q store.Queries, h store.Holder, tenantID uuid.UUID, evenDisabled bool) (Grants, error) {
	rows, err := q.Grants(ctx, h, tenantID, evenDisabled)
	return sum(rows), err
}

// sum adds up what single roles give.
func sum(rows []store.Grant) Grants {
	var g Grants
	for _, r := range rows {
		g.Roles = append(g.Roles, r.Role)
		g.Permissions = append(g.Permissions, r.Permissions...)
		if r.Reach != store.ReachTenant {
			g.Projects = append(g.Projects, r.Permissions...)
		}
		if r.Reach == store.ReachPlatform {
			g.Platform = append(g.Platform, r.Permissions...)
		}
	}
	for _, list := range []*[]string{&g.Roles, &g.Permissions, &g.Projects, &g.Platform} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return g
}

// UserGrants tells what a user may do in a tenant; nil is their own. It fails with ErrUserNotFound, also for users who are disabled.
func (s *Service) UserGrants(ctx context.Context, userID, tenantID uuid.UUID) (Grants, error) {
	u, err := s.Store.User(ctx, userID, nil)
	if err != nil {
		return Grants{}, err
	}
	if u.Disabled {
		return Grants{}, auth.ErrUserNotFound
	}
	if tenantID == uuid.Nil {
		tenantID = u.TenantID
	}
	return s.grants(ctx, s.Store.Queries, store.HolderOf(u), tenantID, false)
}

// empower gives a principal what they may do in a tenant, and where they do it.
func empower(p identity.Principal, tenantID uuid.UUID, g Grants) identity.Principal {
	p.TenantID, p.Permissions, p.Platform, p.Scope = tenantID, g.Permissions, g.Platform, identity.ScopeTenant
	p.Role = strings.Join(g.Roles, ",")
	if len(g.Permissions) > 0 && identity.Uncovered(g.Platform, g.Permissions) == "" {
		p.Scope = identity.ScopePlatform
	}
	return p
}

// heldBy tells what the caller may do in a tenant, whichever they act in. What a caller without a session holds, such as an API key, was cut
// down when it was let in, so nothing is added to that.
func (s *Service) heldBy(ctx context.Context, q store.Queries, p identity.Principal, tenantID uuid.UUID) (Grants, error) {
	if p.SessionID == uuid.Nil {
		g := Grants{Permissions: p.Permissions, Platform: p.Platform}
		if p.Scope == identity.ScopePlatform {
			g.Platform = p.Permissions
		}
		if tenantID != p.TenantID {
			g.Permissions = g.Platform
		}
		g.Projects = g.Platform
		return g, nil
	}
	u, err := q.User(ctx, p.UserID, nil)
	if err != nil {
		return Grants{}, as(err, auth.ErrUserNotFound, auth.ErrSessionRevoked) // the caller is gone
	}
	return s.grants(ctx, q, store.HolderOf(u), tenantID, true)
}

// inTenant says what permissions amount to in a tenant: "any resource" means there the resources of tenants. What the database gives as grants
// is like that already.
func inTenant(ctx context.Context, q store.Queries, permissions []string) ([]string, error) {
	var out, resources []string
	for _, p := range permissions {
		rest, any := strings.CutPrefix(p, "*")
		if !any {
			out = append(out, p)
			continue
		}
		if resources == nil {
			var err error
			if resources, err = q.PermissionResources(ctx); err != nil {
				return nil, err
			}
		}
		if rest == "" {
			rest = ":*"
		}
		for _, r := range resources {
			out = append(out, r+rest)
		}
	}
	return out, nil
}

// covers fails with ErrGrantExceedsOwn unless what is held covers what is given.
func covers(held, given Grants) error {
	for _, part := range []struct {
		held, given []string
		where       string
	}{
		{held.Platform, given.Platform, " on the platform"},
		{held.Permissions, given.Permissions, ""},
		{held.Projects, given.Projects, " in the projects of the tenant"},
	} {
		if missing := identity.Uncovered(part.held, part.given); missing != "" {
			return exceeds(missing, part.where)
		}
	}
	return nil
}

func exceeds(permission, where string) *errs.Error {
	return auth.ErrGrantExceedsOwn.WithMessage("that takes the permission %s%s, which you lack", permission, where).WithMeta("permission", permission)
}

// mayAssign fails with ErrGrantExceedsOwn unless the caller holds all that an account of the tenant gets from the role.
func (s *Service) mayAssign(ctx context.Context, q store.Queries, p identity.Principal, r auth.Role, tenantID uuid.UUID) error {
	given := Grants{Permissions: r.Permissions}
	var err error
	if r.Scope == identity.ScopePlatform {
		given.Platform = r.Permissions
	} else if given.Permissions, err = inTenant(ctx, q, r.Permissions); err != nil {
		return err
	}
	held, err := s.heldBy(ctx, q, p, tenantID)
	if err != nil {
		return err
	}
	return covers(held, given)
}

// mayActOn fails with ErrGrantExceedsOwn where the user may do anything, in any tenant, that the caller may not do there: who resets a
// password can become its owner.
func (s *Service) mayActOn(ctx context.Context, q store.Queries, p identity.Principal, target auth.User) error {
	if target.ID == p.UserID && p.SessionID != uuid.Nil {
		return nil // but not for a key of theirs, which may hold less
	}
	h := store.HolderOf(target)
	places, err := q.GrantPlaces(ctx, h)
	if err != nil {
		return err
	}
	if !slices.Contains(places, target.TenantID) {
		places = append(places, target.TenantID)
	}
	for _, place := range places {
		theirs, err := s.grants(ctx, q, h, place, true)
		if err != nil {
			return err
		}
		mine, err := s.heldBy(ctx, q, p, place)
		if err != nil {
			return err
		}
		if err := covers(mine, theirs); err != nil {
			return err
		}
	}
	return nil
}

// platformOnly refuses a caller who lacks the permission for every tenant.
func platformOnly(permission string) *errs.Error {
	return auth.ErrPlatformOnly.WithMessage("the permission %s on the platform is missing", permission).WithMeta("permission", permission).
		WithAction("It takes a role that reaches every tenant.")
}

// reachOf tells how far a caller sees with a permission that they hold.
func reachOf(p identity.Principal, permission string) store.Reach {
	if p.AllowsPlatform(permission) {
		return nil
	}
	return &p.TenantID
}

// MyTenants lists the tenants that the caller can act in without a permission on the platform, by name.
func (s *Service) MyTenants(ctx context.Context, p identity.Principal) ([]auth.Tenant, error) {
	return s.Store.TenantsOf(ctx, p.UserID, p.HomeID, maxMyTenants)
}

// maxMyTenants bounds the list of the caller's tenants, which is not cut to pages.
const maxMyTenants = 1000
