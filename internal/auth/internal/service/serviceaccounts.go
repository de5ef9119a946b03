package service

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// ServiceAccounts lists service accounts.
func (s *Service) ServiceAccounts(ctx context.Context, p identity.Principal, f TenantFilter, after *store.After, limit int) ([]auth.User, error) {
	reach, err := f.reach(p, userRead)
	if err != nil {
		return nil, err
	}
	return s.Store.ServiceAccounts(ctx, reach, after, limit)
}

// ServiceAccount gives one service account.
func (s *Service) ServiceAccount(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.User, error) {
	u, err := s.Store.User(ctx, id, reachOf(p, userRead))
	if err != nil {
		return auth.User{}, as(err, auth.ErrUserNotFound, auth.ErrNoServiceAccount)
	}
	if u.Kind != auth.KindService {
		return auth.User{}, auth.ErrNoServiceAccount
	}
	return u, nil
}

// NewServiceAccount is what a service account is made of.
type NewServiceAccount struct {
	Name        string
	Description string
	Role        string    // empty: auth.RoleViewer
	TenantID    uuid.UUID // nil: the one that the caller acts in
}

// CreateServiceAccount makes an account without a password. Keys for it are made apart.
func (s *Service) CreateServiceAccount(ctx context.Context, p identity.Principal, n NewServiceAccount) (auth.User, error) {
	if n.Role == "" {
		n.Role = auth.RoleViewer
	}
	reach, err := TenantFilter{ID: n.TenantID}.reach(p, userWrite)
	if err != nil {
		return auth.User{}, err
	}
	account := store.NewUser{
		Kind: auth.KindService, Username: n.Name, Description: n.Description, Role: n.Role, TenantID: *reach, Now: s.now(),
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
		role, err := tx.HoldRole(ctx, n.Role, account.TenantID)
		if err != nil {
			return unknownRole(err, n.Role)
		}
		if err := s.mayAssign(ctx, tx, p, role, account.TenantID); err != nil {
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

// UpdateServiceAccount changes a service account. Keys of a disabled one do not count.
func (s *Service) UpdateServiceAccount(ctx context.Context, p identity.Principal, id uuid.UUID, c UserChange) (auth.User, error) {
	if _, err := s.ServiceAccount(ctx, p, id); err != nil {
		return auth.User{}, err
	}
	u, err := s.UpdateUser(ctx, p, id, c)
	return u, as(err, auth.ErrUserNotFound, auth.ErrNoServiceAccount)
}

// DeleteServiceAccount removes a service account and its keys.
func (s *Service) DeleteServiceAccount(ctx context.Context, p identity.Principal, id uuid.UUID) error {
	if _, err := s.ServiceAccount(ctx, p, id); err != nil {
		return err
	}
	return as(s.DeleteUser(ctx, p, id), auth.ErrUserNotFound, auth.ErrNoServiceAccount)
}
