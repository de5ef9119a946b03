package service

import (
	"context"
	"errors"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
)

// registrations is what attempts to register are counted as; no user name has a space.
const registrations = "self registration"

// Register makes an account for somebody unknown, with the role user: in the tenant that is configured, or in one of their own that has their name.
// It fails with ErrRegistrationOff unless it is switched on. Each address has a few registrations an hour, and then waits longer and longer.
func (s *Service) Register(ctx context.Context, n NewUser, from Client) (auth.User, error) {
	if !s.cfg.SelfRegistration {
		return auth.User{}, auth.ErrRegistrationOff
	}
	if err := acceptable(n.Password, auth.User{Username: n.Username, Email: n.Email}, "password"); err != nil {
		return auth.User{}, err
	}
	// An attempt that neither fails nor succeeds counts against the address.
	if _, err := s.Limiter.Begin(ctx, registrations, from.Addr, func(context.Context) (bool, error) { return false, nil }); err != nil {
		return auth.User{}, err
	}
	hash, err := s.hash(ctx, n.Password)
	if err != nil {
		return auth.User{}, err
	}
	userID, err := newID()
	if err != nil {
		return auth.User{}, err
	}
	tenantID, err := newID()
	if err != nil {
		return auth.User{}, err
	}
	account := store.NewUser{ID: userID, Username: n.Username, Email: n.Email, PasswordHash: hash, Role: auth.RoleUser, Now: s.now()}
	var u auth.User
	telling := func() []event.Auth {
		user := event.Auth{Type: event.AuthUserCreated, TenantID: u.TenantID, UserID: u.ID}
		if s.cfg.RegistrationTenant == "" {
			return []event.Auth{{Type: event.AuthTenantCreated, TenantID: u.TenantID}, user}
		}
		return one(user)
	}
	err = s.changing(ctx, telling, func(tx store.Queries) error {
		var t auth.Tenant
		var err error
		if s.cfg.RegistrationTenant == "" {
			t, err = tx.InsertTenant(ctx, tenantID, n.Username, nil, account.Now)
		} else if t, err = tx.TenantByName(ctx, s.cfg.RegistrationTenant); err == nil {
			err = s.holdTenant(ctx, tx, t.ID)
		}
		if errors.Is(err, auth.ErrTenantNotFound) || errors.Is(err, auth.ErrTenantDisabled) {
			s.Log.ErrorContext(ctx, "nobody can register: the tenant that they should join is not there or disabled", "tenant", s.cfg.RegistrationTenant)
			return auth.ErrRegistrationOff
		}
		if err != nil {
			return as(err, auth.ErrTenantExists, auth.ErrUsernameTaken)
		}
		account.TenantID = t.ID
		u, err = tx.InsertUser(ctx, account)
		return err
	})
	if err != nil {
		return auth.User{}, err
	}
	s.Log.InfoContext(ctx, "somebody registered", "user_id", u.ID, "username", u.Username, "tenant_id", u.TenantID, "ip", from.ip())
	audit.Actor(ctx, u.ID, u.Username, u.TenantID)
	return u, nil
}
