package service

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// TenantFilter says which tenant's objects a list shows. The zero value is the caller's own.
type TenantFilter struct {
	All bool      // every tenant
	ID  uuid.UUID // this one, unless nil
}

// reach turns a filter into what the caller may see of it. Tenants out of reach do not exist.
func (f TenantFilter) reach(p identity.Principal) (store.Reach, error) {
	switch {
	case f.All && p.Scope != identity.ScopePlatform:
		return nil, auth.ErrPlatformOnly
	case f.All:
		return nil, nil
	case f.ID == uuid.Nil || f.ID == p.TenantID:
		return &p.TenantID, nil
	case p.Scope != identity.ScopePlatform:
		return nil, auth.ErrTenantNotFound
	}
	return &f.ID, nil
}

// Users lists users.
func (s *Service) Users(ctx context.Context, p identity.Principal, f TenantFilter, after *store.After, limit int) ([]auth.User, error) {
	reach, err := f.reach(p)
	if err != nil {
		return nil, err
	}
	return s.Store.Users(ctx, reach, after, limit)
}

// User gives one user.
func (s *Service) User(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.User, error) {
	return s.Store.User(ctx, id, reachOf(p))
}

// NewUser is what a user is made of.
type NewUser struct {
	Username, Email, Password string
	Role                      string    // empty: auth.RoleUser
	TenantID                  uuid.UUID // nil: the caller's
}

// CreateUser makes a user.
func (s *Service) CreateUser(ctx context.Context, p identity.Principal, n NewUser) (auth.User, error) {
	if n.Role == "" {
		n.Role = auth.RoleUser
	}
	reach, err := TenantFilter{ID: n.TenantID}.reach(p)
	if err != nil {
		return auth.User{}, err
	}
	if n.TenantID = *reach; n.TenantID != p.TenantID {
		if _, err := s.Store.Tenant(ctx, n.TenantID, reachOf(p)); err != nil {
			return auth.User{}, err
		}
	}
	role, err := s.Store.Role(ctx, n.Role, n.TenantID)
	if err != nil {
		return auth.User{}, unknownRole(err, n.Role)
	}
	if err := covers(p, role); err != nil {
		return auth.User{}, err
	}
	if err := acceptable(n.Password, auth.User{Username: n.Username, Email: n.Email}, "password"); err != nil {
		return auth.User{}, err
	}
	hash, err := s.hash(ctx, n.Password)
	if err != nil {
		return auth.User{}, err
	}
	id, err := newID()
	if err != nil {
		return auth.User{}, err
	}
	u, err := s.Store.InsertUser(ctx, store.NewUser{
		ID: id, Username: n.Username, Email: n.Email, PasswordHash: hash, Role: n.Role, TenantID: n.TenantID, Now: s.now(),
	})
	if err != nil {
		return auth.User{}, err
	}
	s.tell(ctx, event.Auth{Type: event.AuthUserCreated, TenantID: u.TenantID, UserID: u.ID})
	return u, nil
}

// UserChange says what to change of a user; nil leaves a part as it is.
type UserChange struct {
	Email    *string // empty: none
	Role     *string
	Disabled *bool
	// Description is of service accounts only.
	Description *string
	Version     *int64 // fail with ErrVersion unless the user has this version
}

// UpdateUser changes a user. Disabling one ends their sessions, and their API keys do not count meanwhile.
func (s *Service) UpdateUser(ctx context.Context, p identity.Principal, id uuid.UUID, c UserChange) (auth.User, error) {
	var updated auth.User
	err := s.Store.InTx(ctx, func(tx store.Queries) error {
		admins, err := tx.LockAdmins(ctx)
		if err != nil {
			return err
		}
		held, err := tx.LockAccount(ctx, id, reachOf(p))
		if err != nil {
			return err
		}
		u := held.User
		if err := s.mayActOn(ctx, tx, p, u); err != nil {
			return err
		}
		if c.Version != nil && *c.Version != u.Version {
			return auth.ErrVersion
		}
		if c.Role != nil && *c.Role != u.Role {
			role, err := tx.Role(ctx, *c.Role, u.TenantID)
			if err != nil {
				return unknownRole(err, *c.Role)
			}
			if err := covers(p, role); err != nil {
				return err
			}
			u.Role = *c.Role
		}
		if c.Email != nil {
			u.Email = *c.Email
		}
		if c.Disabled != nil {
			u.Disabled = *c.Disabled
		}
		if c.Description != nil {
			u.Description = *c.Description
		}
		if (u.Role != auth.RoleAdmin || u.Disabled) && isLast(admins, id) {
			return auth.ErrLastAdmin
		}
		now := s.now()
		if u.Disabled && !held.Disabled {
			if err := tx.RevokeSessions(ctx, id, nil, now); err != nil {
				return err
			}
		}
		updated, err = tx.UpdateUser(ctx, u, now)
		return err
	})
	if err != nil {
		return auth.User{}, err
	}
	s.tell(ctx, event.Auth{Type: event.AuthUserUpdated, TenantID: updated.TenantID, UserID: id})
	return updated, nil
}

// DeleteUser removes a user with their sessions and API keys.
func (s *Service) DeleteUser(ctx context.Context, p identity.Principal, id uuid.UUID) error {
	var gone auth.User
	err := s.Store.InTx(ctx, func(tx store.Queries) error {
		admins, err := tx.LockAdmins(ctx)
		if err != nil {
			return err
		}
		held, err := tx.LockAccount(ctx, id, reachOf(p))
		if err != nil {
			return err
		}
		gone = held.User
		if err := s.mayActOn(ctx, tx, p, gone); err != nil {
			return err
		}
		if isLast(admins, id) {
			return auth.ErrLastAdmin
		}
		return tx.DeleteUser(ctx, id)
	})
	if err != nil {
		return err
	}
	s.tell(ctx, event.Auth{Type: event.AuthUserDeleted, TenantID: gone.TenantID, UserID: id})
	return nil
}

// isLast tells whether the user is the only enabled administrator.
func isLast(admins []uuid.UUID, id uuid.UUID) bool {
	return len(admins) == 1 && slices.Contains(admins, id)
}

func unknownRole(err error, name string) error {
	if errors.Is(err, auth.ErrUnknownRole) {
		return auth.ErrUnknownRole.WithField("body.role", "is not a role of the tenant", name)
	}
	return err
}
