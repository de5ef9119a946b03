package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Tenants lists the tenants that the caller sees: their own, or all with a role that reaches them.
func (s *Service) Tenants(ctx context.Context, p identity.Principal, after *store.After, limit int) ([]auth.Tenant, error) {
	return s.Store.Tenants(ctx, reachOf(p), after, limit)
}

// Tenant gives one tenant.
func (s *Service) Tenant(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.Tenant, error) {
	return s.Store.Tenant(ctx, id, reachOf(p))
}

// CreateTenant makes a tenant; that takes a role that reaches every tenant.
func (s *Service) CreateTenant(ctx context.Context, p identity.Principal, name string) (auth.Tenant, error) {
	if p.Scope != identity.ScopePlatform {
		return auth.Tenant{}, auth.ErrPlatformOnly
	}
	id, err := newID()
	if err != nil {
		return auth.Tenant{}, err
	}
	t, err := s.Store.InsertTenant(ctx, id, name, s.now())
	if err != nil {
		return auth.Tenant{}, err
	}
	s.tell(ctx, event.Auth{Type: event.AuthTenantCreated, TenantID: t.ID})
	return t, nil
}

// TenantChange says what to change of a tenant; nil leaves a part as it is.
type TenantChange struct {
	Name     *string
	Disabled *bool
	Version  *int64 // fail with ErrVersion unless the tenant has this version
}

// UpdateTenant changes a tenant; that takes a role that reaches every tenant. Nobody of a disabled tenant gets or stays in.
func (s *Service) UpdateTenant(ctx context.Context, p identity.Principal, id uuid.UUID, c TenantChange) (auth.Tenant, error) {
	var updated auth.Tenant
	err := s.Store.InTx(ctx, func(tx store.Queries) error {
		t, err := tx.LockTenant(ctx, id, reachOf(p))
		if err != nil {
			return err
		}
		switch {
		case p.Scope != identity.ScopePlatform:
			return auth.ErrPlatformOnly
		case c.Version != nil && *c.Version != t.Version:
			return auth.ErrVersion
		case c.Disabled != nil && *c.Disabled && id == p.TenantID:
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
	s.tell(ctx, event.Auth{Type: event.AuthTenantUpdated, TenantID: id})
	return updated, nil
}

// Roles lists the roles there are in the caller's tenant.
func (s *Service) Roles(ctx context.Context, p identity.Principal) ([]auth.Role, error) {
	return s.Store.Roles(ctx, p.TenantID)
}

// Permissions lists the permissions there are: those that routes ask for and those that roles name.
func (s *Service) Permissions(ctx context.Context) ([]string, error) {
	list, err := s.Store.Permissions(ctx)
	if err != nil {
		return nil, fmt.Errorf("list permissions: %w", err)
	}
	if s.Known != nil {
		list = append(list, s.Known()...)
	}
	list = slices.DeleteFunc(list, func(p string) bool { return !strings.Contains(p, ":") }) // public, authenticated
	slices.Sort(list)
	return slices.Compact(list), nil
}
