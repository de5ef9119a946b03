package service

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/password"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Sessions lists the caller's live sessions.
func (s *Service) Sessions(ctx context.Context, p identity.Principal, after *store.After, limit int) ([]auth.Session, error) {
	if err := byLogin(p); err != nil {
		return nil, err
	}
	list, err := s.Store.Sessions(ctx, p.UserID, s.now(), after, limit)
	for i := range list {
		list[i].Current = list[i].ID == p.SessionID
	}
	return list, err
}

// Session gives one of the caller's live sessions.
func (s *Service) Session(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.Session, error) {
	if err := byLogin(p); err != nil {
		return auth.Session{}, err
	}
	session, err := s.Store.Session(ctx, id, p.UserID, s.now())
	session.Current = session.ID == p.SessionID
	return session, err
}

// RevokeSession ends one of the caller's sessions.
func (s *Service) RevokeSession(ctx context.Context, p identity.Principal, id uuid.UUID) error {
	if err := byLogin(p); err != nil {
		return err
	}
	return s.endSession(ctx, event.Auth{Type: event.AuthSessionRevoked, TenantID: p.TenantID, UserID: p.UserID, SessionID: id})
}

// RevokeSessions ends the caller's sessions, all of them or all but the one that asks.
func (s *Service) RevokeSessions(ctx context.Context, p identity.Principal, keepCurrent bool) error {
	if err := byLogin(p); err != nil {
		return err
	}
	var keep *uuid.UUID
	if keepCurrent {
		keep = &p.SessionID
	}
	return s.endSessions(ctx, event.Auth{Type: event.AuthSessionsRevoked, TenantID: p.TenantID, UserID: p.UserID}, keep)
}

// endSession ends the session that the event is about, and tells so.
func (s *Service) endSession(ctx context.Context, e event.Auth) error {
	return s.changing(ctx, func() []event.Auth { return one(e) }, func(tx store.Queries) error {
		revoked, err := tx.RevokeSession(ctx, e.SessionID, e.UserID, s.now())
		if err == nil && !revoked {
			return auth.ErrSessionNotFound
		}
		return err
	})
}

// endSessions ends the sessions of the user that the event is about, all but one perhaps, and tells so.
func (s *Service) endSessions(ctx context.Context, e event.Auth, keep *uuid.UUID) error {
	return s.changing(ctx, func() []event.Auth { return one(e) }, func(tx store.Queries) error {
		return tx.RevokeSessions(ctx, e.UserID, keep, s.now())
	})
}

// Profile is what a caller sees of themselves.
type Profile struct {
	User   auth.User
	Tenant auth.Tenant
}

// Me gives the caller's account and tenant.
func (s *Service) Me(ctx context.Context, p identity.Principal) (Profile, error) {
	user, err := s.Store.User(ctx, p.UserID, nil)
	if err != nil {
		return Profile{}, err
	}
	tenant, err := s.Store.Tenant(ctx, p.TenantID, nil)
	return Profile{User: user, Tenant: tenant}, err
}

// ChangePassword replaces the caller's own password and ends all their other sessions. Guesses at the current one are throttled
// like logins.
func (s *Service) ChangePassword(ctx context.Context, p identity.Principal, current, next string, from Client) error {
	if err := byLogin(p); err != nil {
		return err
	}
	account, err := s.Store.AccountByUsername(ctx, p.Username)
	if err != nil {
		return err
	}
	if current == next {
		return auth.ErrWeakPassword.WithMessage("the new password is the current one").WithField("body.new_password", "is the current password", "")
	}
	if err := acceptable(next, account.User, "new_password"); err != nil {
		return err
	}
	if err := s.provePassword(ctx, account, current, from, "current_password"); err != nil {
		return err
	}
	hash, err := s.hash(ctx, next)
	if err != nil {
		return err
	}
	err = s.changing(ctx, newPassword(account.User), func(tx store.Queries) error {
		held, err := tx.LockAccount(ctx, account.ID, nil)
		if err != nil {
			return err
		}
		if held.PasswordHash != account.PasswordHash && !held.PasswordChangedAt.Equal(account.PasswordChangedAt) {
			return auth.ErrWrongPassword // it was changed while we hashed
		}
		return replacePassword(ctx, tx, s, account.ID, hash, nil, &p.SessionID)
	})
	if err != nil {
		return err
	}
	s.passwordChanged(ctx)
	return nil
}

// provePassword checks the password of who is logged in. Guesses are throttled like logins.
func (s *Service) provePassword(ctx context.Context, account store.Account, plain string, from Client, field string) error {
	attempt, err := s.Limiter.Begin(ctx, account.Username, from.Addr, func(ctx context.Context) (bool, error) {
		return s.Store.KnownAddress(ctx, account.Username, from.ip())
	})
	if err != nil {
		return err
	}
	match, _, err := s.check(ctx, plain, account.PasswordHash)
	if err != nil {
		return err
	}
	if !match {
		if err := attempt.Fail(ctx); err != nil {
			return err
		}
		return auth.ErrWrongPassword.WithField("body."+field, "is wrong", "")
	}
	return attempt.Succeed(ctx)
}

// ResetPassword sets the password of another user and ends all their sessions. With mustChange, or without a password, it is a one-time
// password; one that was made up is in the answer and nowhere else.
func (s *Service) ResetPassword(ctx context.Context, p identity.Principal, id uuid.UUID, next string, mustChange bool) (oneTime string, until *time.Time, err error) {
	target, err := s.Store.User(ctx, id, reachOf(p, userWrite))
	if err != nil {
		return "", nil, err
	}
	if id == p.UserID {
		return "", nil, auth.ErrOwnPassword
	}
	if target.Kind == auth.KindService {
		return "", nil, auth.ErrServiceAccount
	}
	made, end := s.newOneTimePassword()
	if next == "" {
		oneTime, next, until = made, made, end
	} else if err := acceptable(next, target, "password"); err != nil {
		return "", nil, err
	}
	if mustChange {
		until = end
	}
	// Refuse before the costly hash what is refused again, for certain, below.
	if err := s.mayActOn(ctx, s.Store.Queries, p, target); err != nil {
		return "", nil, err
	}
	hash, err := s.hash(ctx, next)
	if err != nil {
		return "", nil, err
	}
	err = s.changing(ctx, newPassword(target), func(tx store.Queries) error {
		held, err := tx.LockAccount(ctx, id, reachOf(p, userWrite))
		if err != nil {
			return err
		}
		if err := s.mayActOn(ctx, tx, p, held.User); err != nil {
			return err
		}
		return replacePassword(ctx, tx, s, id, hash, until, nil)
	})
	if err != nil {
		return "", nil, err
	}
	s.passwordChanged(ctx)
	return oneTime, until, nil
}

// newOneTimePassword makes up a password that opens a session which can do nothing but replace it, and says when it ends.
func (s *Service) newOneTimePassword() (plain string, until *time.Time) {
	end := s.now().Add(s.cfg.OneTimePasswordTTL)
	return password.Generate(), &end
}

func replacePassword(ctx context.Context, tx store.Queries, s *Service, id uuid.UUID, hash string, oneTime *time.Time, keep *uuid.UUID) error {
	now := s.now()
	if err := tx.SetPassword(ctx, id, hash, oneTime, now); err != nil {
		return err
	}
	return tx.RevokeSessions(ctx, id, keep, now)
}

// newPassword is what tells of a changed password.
func newPassword(u auth.User) func() []event.Auth {
	return func() []event.Auth {
		return one(event.Auth{Type: event.AuthPasswordChanged, TenantID: u.TenantID, UserID: u.ID})
	}
}

// passwordChanged does what is left to do then.
func (s *Service) passwordChanged(ctx context.Context) {
	if err := s.reconcilePasswordFile(context.WithoutCancel(ctx)); err != nil {
		s.Log.WarnContext(ctx, "the first administrator's password file may be out of date", "error", err)
	}
}
