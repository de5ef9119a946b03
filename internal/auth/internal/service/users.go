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

// reach turns a filter into what the caller may see of it with a permission. Tenants out of reach do not exist.
func (f TenantFilter) reach(p identity.Principal, permission string) (store.Reach, error) {
	platform := p.AllowsPlatform(permission)
	switch {
	case f.All && !platform:
		return nil, platformOnly(permission)
	case f.All:
		return nil, nil
	case f.ID == uuid.Nil || f.ID == p.TenantID:
		return &p.TenantID, nil
	case !platform:
		return nil, auth.ErrTenantNotFound
	}
	return &f.ID, nil
}

// The permissions on users.
const (
	userRead  = "user:read"
	userWrite = "user:write"
)

// Users lists users; the one of a name where that is given.
func (s *Service) Users(ctx context.Context, p identity.Principal, f TenantFilter, username string, after *store.After, limit int) ([]auth.User, error) {
	reach, err := f.reach(p, userRead)
	if err != nil {
		return nil, err
	}
	return s.Store.Users(ctx, reach, username, after, limit)
}

// User gives one user.
func (s *Service) User(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.User, error) {
	return s.Store.User(ctx, id, reachOf(p, userRead))
}

// NewUser is what a user is made of.
type NewUser struct {
	Username, Email string
	Password        string    // empty: a one-time password is made up
	Role            string    // empty: auth.RoleUser
	TenantID        uuid.UUID // nil: the one that the caller acts in
}

// CreateUser makes a user. Without a password it makes up a one-time password, which is in the answer and nowhere else.
func (s *Service) CreateUser(ctx context.Context, p identity.Principal, n NewUser) (u auth.User, oneTime string, err error) {
	if n.Role == "" {
		n.Role = auth.RoleUser
	}
	reach, err := TenantFilter{ID: n.TenantID}.reach(p, userWrite)
	if err != nil {
		return auth.User{}, "", err
	}
	n.TenantID = *reach
	account := store.NewUser{Username: n.Username, Email: n.Email, Role: n.Role, TenantID: n.TenantID, Now: s.now()}
	allowed := func(q store.Queries) error {
		role, err := q.Role(ctx, n.Role, n.TenantID)
		if err != nil {
			return unknownRole(err, n.Role)
		}
		return s.mayAssign(ctx, q, p, role, n.TenantID)
	}
	// Refuse before the costly hash what is refused again, for certain, below.
	if n.TenantID != p.TenantID {
		if _, err := s.Store.Tenant(ctx, n.TenantID, nil); err != nil {
			return auth.User{}, "", err
		}
	}
	if err := allowed(s.Store.Queries); err != nil {
		return auth.User{}, "", err
	}
	if n.Password == "" {
		oneTime, account.OneTime = s.newOneTimePassword()
		n.Password = oneTime
	} else if err := acceptable(n.Password, auth.User{Username: n.Username, Email: n.Email}, "password"); err != nil {
		return auth.User{}, "", err
	}
	if u, err = s.insertUser(ctx, account, n.Password, allowed); err != nil {
		return auth.User{}, "", err
	}
	return u, oneTime, nil
}

// insertUser makes an account with a password, if allowed says so while tenant and role are held as they are.
func (s *Service) insertUser(ctx context.Context, account store.NewUser, plain string, allowed func(store.Queries) error) (auth.User, error) {
	var err error
	if account.PasswordHash, err = s.hash(ctx, plain); err != nil {
		return auth.User{}, err
	}
	if account.ID, err = newID(); err != nil {
		return auth.User{}, err
	}
	var u auth.User
	err = s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthUserCreated, TenantID: u.TenantID, UserID: u.ID})
	}, func(tx store.Queries) error {
		if err := s.holdTenant(ctx, tx, account.TenantID); err != nil {
			return err
		}
		if _, err := tx.HoldRole(ctx, account.Role, account.TenantID); err != nil {
			return unknownRole(err, account.Role)
		}
		if err := allowed(tx); err != nil {
			return err
		}
		u, err = tx.InsertUser(ctx, account)
		return err
	})
	if err != nil {
		return auth.User{}, err
	}
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
	err := s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthUserUpdated, TenantID: updated.TenantID, UserID: id})
	}, func(tx store.Queries) error {
		admins, err := tx.LockAdmins(ctx)
		if err != nil {
			return err
		}
		held, err := tx.LockAccount(ctx, id, reachOf(p, userWrite))
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
			role, err := tx.HoldRole(ctx, *c.Role, u.TenantID)
			if err != nil {
				return unknownRole(err, *c.Role)
			}
			if err := s.mayAssign(ctx, tx, p, role, u.TenantID); err != nil {
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
	return updated, nil
}

// DeleteUser removes a user with their sessions and API keys.
func (s *Service) DeleteUser(ctx context.Context, p identity.Principal, id uuid.UUID) error {
	var gone auth.User
	err := s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthUserDeleted, TenantID: gone.TenantID, UserID: id})
	}, func(tx store.Queries) error {
		admins, err := tx.LockAdmins(ctx)
		if err != nil {
			return err
		}
		held, err := tx.LockAccount(ctx, id, reachOf(p, userWrite))
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
