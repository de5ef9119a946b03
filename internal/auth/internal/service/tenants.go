package service

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// The permissions on tenants.
const (
	tenantRead  = "tenant:read"
	tenantWrite = "tenant:write"
)

// Tenants lists the tenants that the caller sees: the one they act in and its projects, or all with a role that reaches them.
func (s *Service) Tenants(ctx context.Context, p identity.Principal, parent *uuid.UUID, name string, after *store.After, limit int) ([]auth.Tenant, error) {
	f := store.TenantFilter{Reach: reachOf(p, tenantRead), Parent: parent}
	if name != "" {
		f.Name = &name
	}
	return s.Store.Tenants(ctx, f, after, limit)
}

// Tenant gives one tenant.
func (s *Service) Tenant(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.Tenant, error) {
	return s.Store.Tenant(ctx, id, reachOf(p, tenantRead))
}

// CreateTenant makes a tenant, or with a parent a project of it. An organisation takes a permission on the platform; a project that, or the
// permission in the organisation.
func (s *Service) CreateTenant(ctx context.Context, p identity.Principal, name string, parent *uuid.UUID) (auth.Tenant, error) {
	if parent == nil && !p.AllowsPlatform(tenantWrite) {
		return auth.Tenant{}, platformOnly(tenantWrite)
	}
	id, err := newID()
	if err != nil {
		return auth.Tenant{}, err
	}
	var t auth.Tenant
	err = s.changing(ctx, func() []event.Auth { return one(event.Auth{Type: event.AuthTenantCreated, TenantID: t.ID}) }, func(tx store.Queries) error {
		if parent != nil {
			if err := s.mayNest(ctx, tx, p, *parent); err != nil {
				return err
			}
		}
		t, err = tx.InsertTenant(ctx, id, name, parent, s.now())
		return err
	})
	if err != nil {
		return auth.Tenant{}, err
	}
	return t, nil
}

// mayNest fails unless the caller may make projects of the organisation. It is held until the transaction ends; parents never change, so there is
// one level for ever.
func (s *Service) mayNest(ctx context.Context, tx store.Queries, p identity.Principal, parent uuid.UUID) error {
	if parent != p.TenantID && !p.AllowsPlatform(tenantWrite) {
		return auth.ErrTenantNotFound
	}
	o, err := tx.HoldTenant(ctx, parent)
	switch {
	case err != nil:
		return err
	case o.ParentID != nil:
		return auth.ErrNesting
	case o.Disabled:
		return auth.ErrTenantDisabled
	}
	return nil
}

// holdTenant makes sure that something can be put into a tenant, until the transaction ends.
func (s *Service) holdTenant(ctx context.Context, tx store.Queries, id uuid.UUID) error {
	t, err := tx.HoldTenant(ctx, id)
	if err == nil && !t.Disabled && t.ParentID != nil {
		t, err = tx.HoldTenant(ctx, *t.ParentID)
	}
	if err == nil && t.Disabled {
		return auth.ErrTenantDisabled
	}
	return err
}

// TenantChange says what to change of a tenant; nil leaves a part as it is.
type TenantChange struct {
	Name     *string
	Disabled *bool
	Version  *int64 // fail with ErrVersion unless the tenant has this version
}

// UpdateTenant changes a tenant: any with a permission on the platform, and the projects of an organisation with the permission there. Nobody of a
// disabled tenant gets or stays in.
func (s *Service) UpdateTenant(ctx context.Context, p identity.Principal, id uuid.UUID, c TenantChange) (auth.Tenant, error) {
	var updated auth.Tenant
	err := s.changing(ctx, func() []event.Auth { return one(event.Auth{Type: event.AuthTenantUpdated, TenantID: id}) }, func(tx store.Queries) error {
		t, err := lockTenant(ctx, tx, p, id, c.Version)
		if err != nil {
			return err
		}
		if c.Disabled != nil && *c.Disabled && (id == p.TenantID || id == p.HomeID) {
			return auth.ErrOwnTenant
		}
		if c.Name != nil {
			t.Name = *c.Name
		}
		if c.Disabled != nil {
			t.Disabled = *c.Disabled
		}
		updated, err = tx.UpdateTenant(ctx, t, s.now())
		return err
	})
	if err != nil {
		return auth.Tenant{}, err
	}
	if c.Disabled != nil && !*c.Disabled {
		s.reopen(ctx, id) // a deletion that was given up or interrupted may have closed it elsewhere
	}
	return updated, nil
}

// lockTenant gives a tenant that the caller may change, held until the transaction ends.
func lockTenant(ctx context.Context, tx store.Queries, p identity.Principal, id uuid.UUID, version *int64) (auth.Tenant, error) {
	t, err := tx.LockTenant(ctx, id, reachOf(p, tenantWrite))
	switch {
	case err != nil:
		return auth.Tenant{}, err
	case id == p.TenantID && !p.AllowsPlatform(tenantWrite):
		return auth.Tenant{}, platformOnly(tenantWrite)
	case version != nil && *version != t.Version:
		return auth.Tenant{}, auth.ErrVersion
	}
	return t, nil
}
