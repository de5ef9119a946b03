package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// maxRoles is how many roles of its own a tenant may have.
const maxRoles = 200

// Roles lists the roles there are in the tenant that the caller acts in, built-in ones first.
func (s *Service) Roles(ctx context.Context, p identity.Principal, after *store.After, limit int) ([]auth.Role, error) {
	return s.Store.Roles(ctx, p.TenantID, after, limit)
}

// Role gives one role.
func (s *Service) Role(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.Role, error) {
	return s.Store.RoleByID(ctx, id, p.TenantID)
}

// NewRole is what a role is made of.
type NewRole struct {
	Name, Description string
	Permissions       []string
}

// CreateRole makes a role of the tenant that the caller acts in.
func (s *Service) CreateRole(ctx context.Context, p identity.Principal, n NewRole) (auth.Role, error) {
	permissions, err := s.checkPermissions(ctx, n.Permissions)
	if err != nil {
		return auth.Role{}, err
	}
	id, err := newID()
	if err != nil {
		return auth.Role{}, err
	}
	var made auth.Role
	err = s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthRoleCreated, TenantID: p.TenantID, Role: made.Name})
	}, func(tx store.Queries) error {
		if err := s.holdTenant(ctx, tx, p.TenantID); err != nil {
			return err
		}
		r := auth.Role{ID: id, TenantID: &p.TenantID, Name: n.Name, Description: n.Description, Permissions: permissions}
		if err := s.mayAssign(ctx, tx, p, r, p.TenantID); err != nil {
			return err
		}
		same, err := tx.Role(ctx, n.Name, p.TenantID)
		switch {
		case err == nil && same.BuiltIn:
			return auth.ErrRoleExists.WithMessage("a built-in role is named %s", n.Name)
		case err != nil && !errors.Is(err, auth.ErrUnknownRole):
			return err
		}
		count, err := tx.CountRoles(ctx, p.TenantID)
		if err != nil {
			return err
		}
		if count >= maxRoles {
			return auth.ErrTooManyRoles
		}
		if err := tx.InsertRole(ctx, r, s.now()); err != nil {
			return err
		}
		made, err = tx.RoleByID(ctx, id, p.TenantID)
		return err
	})
	if err != nil {
		return auth.Role{}, err
	}
	return made, nil
}

// RoleChange says what to change of a role; nil leaves a part as it is.
type RoleChange struct {
	Description *string
	Permissions *[]string
	Version     *int64 // fail with ErrVersion unless the role has this version
}

// UpdateRole changes a role of the tenant that the caller acts in, at once for all who have it.
func (s *Service) UpdateRole(ctx context.Context, p identity.Principal, id uuid.UUID, c RoleChange) (auth.Role, error) {
	var permissions []string
	if c.Permissions != nil {
		var err error
		if permissions, err = s.checkPermissions(ctx, *c.Permissions); err != nil {
			return auth.Role{}, err
		}
	}
	var updated auth.Role
	err := s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthRoleUpdated, TenantID: p.TenantID, Role: updated.Name})
	}, func(tx store.Queries) error {
		r, err := s.lockRole(ctx, tx, p, id, c.Version)
		if err != nil {
			return err
		}
		if c.Description != nil {
			r.Description = *c.Description
		}
		if c.Permissions != nil {
			r.Permissions = permissions
			if err := s.mayChangeRole(ctx, tx, p, r); err != nil {
				return err
			}
		}
		if err := tx.UpdateRole(ctx, r, s.now()); err != nil {
			return err
		}
		updated, err = tx.RoleByID(ctx, id, p.TenantID)
		return err
	})
	if err != nil {
		return auth.Role{}, err
	}
	return updated, nil
}

// DeleteRole removes a role that nobody has.
func (s *Service) DeleteRole(ctx context.Context, p identity.Principal, id uuid.UUID, version *int64) error {
	var gone auth.Role
	err := s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthRoleDeleted, TenantID: p.TenantID, Role: gone.Name})
	}, func(tx store.Queries) error {
		var err error
		if gone, err = s.lockRole(ctx, tx, p, id, version); err != nil {
			return err
		}
		return tx.DeleteRole(ctx, gone)
	})
	if err != nil {
		return err
	}
	return nil
}

// lockRole gives a role that the caller may change, held until the transaction ends.
func (s *Service) lockRole(ctx context.Context, tx store.Queries, p identity.Principal, id uuid.UUID, version *int64) (auth.Role, error) {
	r, err := tx.LockRole(ctx, id, p.TenantID)
	switch {
	case err != nil:
		return auth.Role{}, err
	case r.BuiltIn:
		return auth.Role{}, auth.ErrRoleBuiltIn
	case version != nil && *version != r.Version:
		return auth.Role{}, auth.ErrVersion
	}
	return r, s.mayChangeRole(ctx, tx, p, r)
}

// mayChangeRole fails unless the caller holds what the role gives to those who have it, in the projects too where it is bound for them.
func (s *Service) mayChangeRole(ctx context.Context, tx store.Queries, p identity.Principal, r auth.Role) error {
	permissions, err := inTenant(ctx, tx, r.Permissions)
	if err != nil {
		return err
	}
	given := Grants{Permissions: permissions}
	bindings, err := tx.RoleReachesProjects(ctx, r.ID)
	if err != nil {
		return err
	}
	if bindings {
		given.Projects = permissions
	}
	held, err := s.heldBy(ctx, tx, p, p.TenantID)
	if err != nil {
		return err
	}
	return covers(held, given)
}

// checkPermissions refuses what is no permission and resources that nothing has, and gives the rest in order.
func (s *Service) checkPermissions(ctx context.Context, list []string) ([]string, error) {
	resources, err := s.Store.PermissionResources(ctx)
	if err != nil {
		return nil, err
	}
	known, err := s.Permissions(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range known {
		resource, _, _ := strings.Cut(p, ":")
		resources = append(resources, resource)
	}
	wrong := auth.ErrInvalidPermission
	for i, p := range list {
		field := fmt.Sprintf("body.permissions[%d]", i)
		resource, _, _ := strings.Cut(p, ":")
		switch {
		case !identity.ValidPermission(p):
			wrong = wrong.WithField(field, "must be \"<resource>:<verb>\", with \"*\" for any and perhaps \":own\" at the end", p)
		case resource != "*" && !slices.Contains(resources, resource):
			wrong = wrong.WithField(field, "names a resource that there is not", p)
		}
	}
	if len(wrong.Fields) > 0 {
		return nil, wrong
	}
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list), nil
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
