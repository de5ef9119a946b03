package service

import (
	"context"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
)

// Rescue says what to do for an account when nobody can log in to do it.
type Rescue struct {
	Username   string
	DisableMFA bool // take its second factor away
	Enable     bool // enable it, and its tenant
	Admin      bool // give it the role admin
}

// Rescue gives an account a one-time password, for who has the host and thereby everything anyway. All its sessions end: at once in this process, and
// in others when what they remember is too old, within half a minute.
func (s *Service) Rescue(ctx context.Context, r Rescue) (oneTime string, u auth.User, err error) {
	account, err := s.Store.AccountByUsername(ctx, r.Username)
	if err != nil {
		return "", auth.User{}, err
	}
	if account.Kind == auth.KindService {
		return "", auth.User{}, auth.ErrServiceAccount
	}
	oneTime, until := s.newOneTimePassword()
	hash, err := s.hash(ctx, oneTime)
	if err != nil {
		return "", auth.User{}, err
	}
	err = s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthPasswordChanged, TenantID: u.TenantID, UserID: u.ID})
	}, func(tx store.Queries) error {
		held, err := tx.LockAccount(ctx, account.ID, nil)
		if err != nil {
			return err
		}
		now := s.now()
		u = held.User
		if r.Enable {
			u.Disabled = false
			tenant, err := tx.LockTenant(ctx, u.TenantID, nil)
			if err != nil {
				return err
			}
			if tenant.Disabled {
				tenant.Disabled = false
				if _, err := tx.UpdateTenant(ctx, tenant, now); err != nil {
					return err
				}
			}
		}
		if r.Admin {
			u.Role = auth.RoleAdmin
		}
		if u, err = tx.UpdateUser(ctx, u, now); err != nil {
			return err
		}
		if r.DisableMFA && u.MFAEnabled {
			if err := tx.RemoveMFA(ctx, u.ID, now); err != nil {
				return err
			}
			u.MFAEnabled = false
		}
		if err := tx.ClearResets(ctx, u.ID); err != nil {
			return err
		}
		return replacePassword(ctx, tx, s, u.ID, hash, until, nil)
	})
	if err != nil {
		return "", auth.User{}, err
	}
	s.Log.WarnContext(ctx, "a password was reset on the host", "user_id", u.ID, "username", u.Username, "mfa_disabled", r.DisableMFA, "enabled", r.Enable, "made_admin", r.Admin)
	return oneTime, u, s.reconcilePasswordFile(ctx)
}
