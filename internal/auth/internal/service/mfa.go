package service

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/totp"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/seal"
)

// The ways to prove a second factor. Others may follow; a client that does not know one of the list passes over it.
const (
	MethodTOTP     = "totp"
	MethodRecovery = "recovery_code"
)

const (
	// enrolTTL is how long a new authenticator app may wait for its first code.
	enrolTTL = 10 * time.Minute
	// freshFor is how long after a login a first app can be set up without the password: who has found a screen unlocked must not make it
	// theirs.
	freshFor = 15 * time.Minute
)

// MFAStatus tells how it stands with a user's second factor.
type MFAStatus struct {
	Enabled           bool
	EnabledAt         *time.Time
	RecoveryCodesLeft int
	Pending           bool // an app waits to be confirmed
	Required          bool // by the tenant, or for the role
}

// Enrolment is a new authenticator app's secret, to be shown this one time.
type Enrolment struct {
	Secret    string
	URI       string
	PNG       []byte
	ExpiresAt time.Time
}

// Proof is the caller's password, or a code of their second factor.
type Proof struct {
	Password, Code string
}

// owesMFA tells whether a principal has no second factor although one is asked of them in a tenant. A nil list of roles stands for those they
// have there.
func (s *Service) owesMFA(ctx context.Context, h store.Holder, tenantID uuid.UUID, roles []string) (bool, error) {
	if roles == nil {
		g, err := s.grants(ctx, s.Store.Queries, h, tenantID, false)
		if err != nil {
			return false, err
		}
		roles = g.Roles
	}
	return s.Store.MFAOwed(ctx, h.ID, tenantID, roles)
}

// byPerson refuses API keys, and who has to replace a one-time password first.
func byPerson(p identity.Principal) error {
	if p.Pending == identity.PendingPassword {
		return httpx.ErrPasswordChange
	}
	return byLogin(p)
}

// MFA tells how it stands with the caller's second factor.
func (s *Service) MFA(ctx context.Context, p identity.Principal) (MFAStatus, error) {
	if err := byPerson(p); err != nil {
		return MFAStatus{}, err
	}
	kept, err := s.Store.TOTP(ctx, p.UserID)
	if err != nil {
		return MFAStatus{}, err
	}
	status := MFAStatus{Enabled: kept.Secret != nil, EnabledAt: kept.EnabledAt, Pending: kept.Pending != nil && s.Now().Before(*kept.PendingUntil)}
	if status.RecoveryCodesLeft, err = s.Store.RecoveryCodesLeft(ctx, p.UserID); err != nil {
		return MFAStatus{}, err
	}
	status.Required, err = s.mfaRequired(ctx, s.Store.Queries, p)
	return status, err
}

// mfaRequired tells whether a second factor is asked of the caller at home, whether they have one or not.
func (s *Service) mfaRequired(ctx context.Context, q store.Queries, p identity.Principal) (bool, error) {
	u, err := q.User(ctx, p.UserID, nil)
	if err != nil {
		return false, err
	}
	g, err := s.grants(ctx, q, store.HolderOf(u), u.TenantID, false)
	if err != nil {
		return false, err
	}
	return q.MFAAsked(ctx, u.TenantID, g.Roles)
}

// EnrolMFA begins to set up an authenticator app. A login of a moment ago is enough for the first one; else it takes a proof. The app in force,
// if there is one, stays so until the new one is confirmed.
func (s *Service) EnrolMFA(ctx context.Context, p identity.Principal, proof Proof, from Client) (Enrolment, error) {
	if err := byPerson(p); err != nil {
		return Enrolment{}, err
	}
	user, err := s.Store.User(ctx, p.UserID, nil)
	if err != nil {
		return Enrolment{}, err
	}
	if proof != (Proof{}) || user.MFAEnabled {
		err = s.prove(ctx, p, proof, from)
	} else {
		var session auth.Session
		session, err = s.Store.Session(ctx, p.SessionID, p.UserID, s.now())
		if err == nil && s.Now().Sub(session.CreatedAt) > freshFor {
			err = auth.ErrReauthenticate
		}
	}
	if err != nil {
		return Enrolment{}, err
	}
	secret := totp.NewSecret()
	sealed, err := s.Box.Seal(secret, totpOwner(p.UserID))
	if err != nil {
		return Enrolment{}, err
	}
	e := Enrolment{Secret: totp.Text(secret), URI: totp.URI(s.cfg.Issuer, user.Username, secret), ExpiresAt: s.now().Add(enrolTTL)}
	if e.PNG, err = totp.PNG(e.URI); err != nil {
		return Enrolment{}, err
	}
	return e, s.Store.ProposeTOTP(ctx, p.UserID, sealed, e.ExpiresAt)
}

func totpOwner(user uuid.UUID) string { return "totp:" + user.String() }

// ConfirmMFA puts the authenticator app that waits in force, if the code is its, and gives new recovery codes. All other sessions of the user
// end: they were opened without it.
func (s *Service) ConfirmMFA(ctx context.Context, p identity.Principal, code string, from Client) ([]string, error) {
	if err := byPerson(p); err != nil {
		return nil, err
	}
	recovery := totp.NewRecoveryCodes()
	hashes := make([][]byte, len(recovery))
	for i, c := range recovery {
		hashes[i] = totp.HashRecoveryCode(p.UserID, c)
	}
	err := s.guess(ctx, p.UserID, from, auth.ErrWrongCode.WithField("body.code", "is wrong", ""), func(tx store.Queries) error {
		if _, err := tx.LockAccount(ctx, p.UserID, nil); err != nil {
			return err
		}
		kept, err := tx.LockTOTP(ctx, p.UserID)
		if err != nil {
			return err
		}
		now := s.now()
		if kept.Pending == nil || now.After(*kept.PendingUntil) {
			return auth.ErrMFANotPending
		}
		secret, err := s.unseal(kept.Pending, p.UserID)
		if err != nil {
			return err
		}
		step, ok, err := totp.Match(secret, totp.Tidy(code), now, 0)
		if err != nil {
			return err
		}
		if !ok {
			return errWrongCode
		}
		if err := tx.ConfirmTOTP(ctx, p.UserID, step, now); err != nil {
			return err
		}
		if err := tx.ReplaceRecoveryCodes(ctx, p.UserID, hashes); err != nil {
			return err
		}
		return tx.RevokeSessions(ctx, p.UserID, &p.SessionID, now)
	})
	if err != nil {
		return nil, err
	}
	s.Log.InfoContext(ctx, "a second factor was set up", "user_id", p.UserID, "ip", from.ip())
	s.tell(ctx, event.Auth{Type: event.AuthMFAEnabled, TenantID: p.HomeID, UserID: p.UserID})
	return recovery, nil
}

// DisableMFA takes the caller's second factor away, unless one is asked of them.
func (s *Service) DisableMFA(ctx context.Context, p identity.Principal, proof Proof, from Client) error {
	if err := byPerson(p); err != nil {
		return err
	}
	allowed := func(q store.Queries) error {
		required, err := s.mfaRequired(ctx, q, p)
		if err == nil && required {
			return auth.ErrMFARequired
		}
		return err
	}
	user, err := s.Store.User(ctx, p.UserID, nil)
	switch {
	case err != nil:
		return err
	case !user.MFAEnabled:
		return auth.ErrMFAOff
	}
	if err := allowed(s.Store.Queries); err != nil { // before a recovery code is spent on it
		return err
	}
	if err := s.prove(ctx, p, proof, from); err != nil {
		return err
	}
	err = s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthMFADisabled, TenantID: p.HomeID, UserID: p.UserID})
	}, func(tx store.Queries) error {
		if _, err := tx.LockAccount(ctx, p.UserID, nil); err != nil {
			return err
		}
		if err := allowed(tx); err != nil {
			return err
		}
		return tx.RemoveMFA(ctx, p.UserID, s.now())
	})
	if err != nil {
		return err
	}
	s.Log.InfoContext(ctx, "a second factor was taken away by its user", "user_id", p.UserID, "ip", from.ip())
	return nil
}

// RenewRecoveryCodes gives the caller new recovery codes. The old ones end.
func (s *Service) RenewRecoveryCodes(ctx context.Context, p identity.Principal, proof Proof, from Client) ([]string, error) {
	if err := byPerson(p); err != nil {
		return nil, err
	}
	user, err := s.Store.User(ctx, p.UserID, nil)
	switch {
	case err != nil:
		return nil, err
	case !user.MFAEnabled:
		return nil, auth.ErrMFAOff
	}
	if err := s.prove(ctx, p, proof, from); err != nil {
		return nil, err
	}
	codes := totp.NewRecoveryCodes()
	hashes := make([][]byte, len(codes))
	for i, c := range codes {
		hashes[i] = totp.HashRecoveryCode(p.UserID, c)
	}
	err = s.Store.InTx(ctx, func(tx store.Queries) error {
		held, err := tx.LockAccount(ctx, p.UserID, nil)
		if err == nil && !held.MFAEnabled {
			return auth.ErrMFAOff
		}
		if err != nil {
			return err
		}
		return tx.ReplaceRecoveryCodes(ctx, p.UserID, hashes)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// ResetMFA takes away the second factor of another user, who has lost it, and ends all their sessions. Nobody resets that of who holds more than
// themselves.
func (s *Service) ResetMFA(ctx context.Context, p identity.Principal, id uuid.UUID) error {
	var target auth.User
	err := s.changing(ctx, func() []event.Auth {
		return one(event.Auth{Type: event.AuthMFADisabled, TenantID: target.TenantID, UserID: id})
	}, func(tx store.Queries) error {
		held, err := tx.LockAccount(ctx, id, reachOf(p, userWrite))
		if err != nil {
			return err
		}
		target = held.User
		if id == p.UserID {
			return auth.ErrOwnMFA
		}
		if err := s.mayActOn(ctx, tx, p, target); err != nil {
			return err
		}
		now := s.now()
		if err := tx.RemoveMFA(ctx, id, now); err != nil {
			return err
		}
		return tx.RevokeSessions(ctx, id, nil, now)
	})
	if err != nil {
		return err
	}
	s.Log.InfoContext(ctx, "a second factor was reset", "user_id", id, "by", p.UserID)
	return nil
}

// unseal opens the secret of an app.
func (s *Service) unseal(sealed []byte, user uuid.UUID) ([]byte, error) {
	secret, err := s.Box.Unseal(sealed, totpOwner(user))
	if errors.Is(err, seal.ErrKey) || errors.Is(err, seal.ErrDamaged) {
		return nil, auth.ErrMFAUnreadable.Wrap(err)
	}
	return secret, err
}
