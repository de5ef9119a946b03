package service

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// The permissions on bindings.
const (
	roleRead = "role:read"
	roleBind = "role:bind"
)

// BindingFilter narrows a list of bindings.
type BindingFilter struct {
	Tenant              TenantFilter
	Scope               *string
	PrincipalID, RoleID *uuid.UUID
}

// Bindings lists the bindings of the tenant that the caller acts in, newest first. Those on the platform take a permission there.
func (s *Service) Bindings(ctx context.Context, p identity.Principal, f BindingFilter, after *store.After, limit int) ([]auth.RoleBinding, error) {
	if f.Scope != nil && *f.Scope == string(identity.ScopePlatform) {
		f.Tenant = TenantFilter{All: true}
	}
	reach, err := f.Tenant.reach(p, roleRead)
	if err != nil {
		return nil, err
	}
	return s.Store.Bindings(ctx, store.BindingFilter{Reach: reach, Scope: f.Scope, PrincipalID: f.PrincipalID, RoleID: f.RoleID}, after, limit)
}

// Binding gives one binding.
func (s *Service) Binding(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.RoleBinding, error) {
	return s.Store.Binding(ctx, id, reachOf(p, roleRead))
}

// NewBinding says which role a principal gets, and where: on the platform, or in the tenant that the caller acts in.
type NewBinding struct {
	Kind            auth.PrincipalKind
	PrincipalID     uuid.UUID
	Role            string
	Scope           identity.Scope
	IncludeProjects bool
}

// Bind gives a role to a principal. Within a tenant that is an account of the tenant, of its organisation, or of one of its projects; anybody's
// takes a permission on the platform.
func (s *Service) Bind(ctx context.Context, p identity.Principal, n NewBinding) (auth.RoleBinding, error) {
	if n.Scope == identity.ScopePlatform && !p.AllowsPlatform(roleBind) {
		return auth.RoleBinding{}, platformOnly(roleBind)
	}
	id, err := newID()
	if err != nil {
		return auth.RoleBinding{}, err
	}
	var made auth.RoleBinding
	err = s.changing(ctx, func() []event.Auth { return one(bindingEvent(event.AuthBindingCreated, made)) }, func(tx store.Queries) error {
		tenant, err := tx.HoldTenant(ctx, p.TenantID)
		if err != nil {
			return err
		}
		b := auth.RoleBinding{ID: id, PrincipalKind: n.Kind, PrincipalID: n.PrincipalID, Scope: n.Scope, CreatedBy: p.UserID}
		if n.Scope == identity.ScopeTenant {
			b.TenantID, b.IncludeProjects = &p.TenantID, n.IncludeProjects
		}
		switch {
		case tenant.Disabled:
			return auth.ErrTenantDisabled
		case n.IncludeProjects && n.Scope != identity.ScopeTenant:
			return auth.ErrBinding.WithField("body.include_projects", "is for scope tenant; the platform includes all there is", "true")
		case n.IncludeProjects && tenant.ParentID != nil:
			return auth.ErrBinding.WithField("body.include_projects", "is for organisations; a project has no projects", "true")
		}
		if err := s.holdPrincipal(ctx, tx, p, n.Kind, n.PrincipalID, tenant); err != nil {
			return err
		}
		role, err := tx.HoldRole(ctx, n.Role, p.TenantID)
		if err != nil {
			return unknownRole(err, n.Role)
		}
		if n.Scope == identity.ScopePlatform && !role.BuiltIn {
			return auth.ErrBinding.WithField("body.role", "is a tenant's own role; only built-in ones can be bound on the platform", n.Role)
		}
		held, err := s.heldBy(ctx, tx, p, p.TenantID)
		if err != nil {
			return err
		}
		given, err := givenBy(ctx, tx, b, role)
		if err == nil {
			err = covers(held, given)
		}
		if err != nil {
			return err
		}
		b.RoleID = role.ID
		if err := tx.InsertBinding(ctx, b, s.now()); err != nil {
			return err
		}
		made, err = tx.Binding(ctx, id, nil)
		return err
	})
	if err != nil {
		return auth.RoleBinding{}, err
	}
	return made, nil
}

// Unbind takes a role from a principal again. Who could not give it cannot take it.
func (s *Service) Unbind(ctx context.Context, p identity.Principal, id uuid.UUID) error {
	var gone auth.RoleBinding
	err := s.changing(ctx, func() []event.Auth { return one(bindingEvent(event.AuthBindingDeleted, gone)) }, func(tx store.Queries) error {
		var err error
		if gone, err = tx.Binding(ctx, id, reachOf(p, roleBind)); err != nil {
			return err
		}
		tenantID := p.TenantID
		if gone.TenantID != nil {
			tenantID = *gone.TenantID
		}
		role, err := tx.RoleByID(ctx, gone.RoleID, tenantID)
		if err != nil {
			return err
		}
		held, err := s.heldBy(ctx, tx, p, tenantID)
		if err != nil {
			return err
		}
		given, err := givenBy(ctx, tx, gone, role)
		if err == nil {
			err = covers(held, given)
		}
		if err != nil {
			return err
		}
		deleted, err := tx.DeleteBinding(ctx, id)
		if err == nil && !deleted {
			return auth.ErrBindingNotFound
		}
		return err
	})
	if err != nil {
		return err
	}
	return nil
}

// givenBy tells what a principal gets from a binding of the role.
func givenBy(ctx context.Context, q store.Queries, b auth.RoleBinding, r auth.Role) (Grants, error) {
	if b.Scope == identity.ScopePlatform {
		return Grants{Permissions: r.Permissions, Platform: r.Permissions}, nil
	}
	permissions, err := inTenant(ctx, q, r.Permissions)
	g := Grants{Permissions: permissions}
	if b.IncludeProjects {
		g.Projects = permissions
	}
	return g, err
}

// holdPrincipal makes sure that a principal is there, that the caller may know of it, and that it stays until the transaction ends.
func (s *Service) holdPrincipal(ctx context.Context, tx store.Queries, p identity.Principal, kind auth.PrincipalKind, id uuid.UUID, tenant auth.Tenant) error {
	var home uuid.UUID
	switch kind {
	case auth.PrincipalUser:
		account, err := tx.LockAccount(ctx, id, nil)
		if err != nil {
			return as(err, auth.ErrUserNotFound, auth.ErrPrincipalNotFound)
		}
		home = account.TenantID
	case auth.PrincipalAPIKey: // the key, and whoever owns it, as somebody at home there
		k, err := tx.LockAPIKey(ctx, id, store.AnyAPIKey())
		if err != nil {
			return as(err, auth.ErrAPIKeyNotFound, auth.ErrPrincipalNotFound)
		}
		home = k.TenantID
	default:
		return auth.ErrPrincipalNotFound
	}
	if home == tenant.ID || p.AllowsPlatform(roleBind) || tenant.ParentID != nil && home == *tenant.ParentID {
		return nil
	}
	other, err := tx.Tenant(ctx, home, nil)
	if err != nil {
		return as(err, auth.ErrTenantNotFound, auth.ErrPrincipalNotFound)
	}
	if other.ParentID == nil || *other.ParentID != tenant.ID {
		return auth.ErrPrincipalNotFound
	}
	return nil
}

// bindingEvent tells of a binding.
func bindingEvent(kind string, b auth.RoleBinding) event.Auth {
	e := event.Auth{Type: kind, Role: b.Role, PrincipalKind: string(b.PrincipalKind), PrincipalID: b.PrincipalID}
	if b.PrincipalKind == auth.PrincipalUser {
		e.UserID = b.PrincipalID
	}
	if b.TenantID != nil {
		e.TenantID = *b.TenantID
	}
	return e
}
