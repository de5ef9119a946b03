package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Client is where a request comes from.
type Client struct {
	Addr      netip.Addr
	UserAgent string
}

func (c Client) ip() string {
	if !c.Addr.IsValid() {
		return ""
	}
	return c.Addr.String()
}

// Tokens are what a login or a refresh answers.
type Tokens struct {
	Access, Refresh string
	ExpiresIn       time.Duration // of Access
	// ChangeRequired says that the password is a one-time one: the session can do nothing but replace it.
	ChangeRequired bool
	// EnrolmentRequired says that the tenant or the role asks for a second factor that the user has not: the session can do nothing but set
	// it up.
	EnrolmentRequired bool
	// Challenge, where it is not empty, stands for all of the above: the password was right, and LoginMFA wants it with a second factor.
	Challenge string
	Methods   []string // of that second factor
}

// oneTimeIsOver tells whether the account has a one-time password that works no more.
func (s *Service) oneTimeIsOver(a store.Account) bool {
	return a.PasswordExpiresAt != nil && s.Now().After(*a.PasswordExpiresAt)
}

// Login makes a session. An unknown user, a wrong password and a disabled user or tenant get the same answer after the same work.
func (s *Service) Login(ctx context.Context, username, plain string, from Client) (Tokens, error) {
	tokens, err := s.login(ctx, username, plain, from)
	if tokens.Challenge == "" { // else it is counted when the second factor was given
		s.Metrics.loggedIn(err)
	}
	return tokens, err
}

func (s *Service) login(ctx context.Context, username, plain string, from Client) (Tokens, error) {
	var account store.Account
	err := error(auth.ErrUserNotFound)
	if utf8.ValidString(username) && !strings.ContainsRune(username, 0) { // else PostgreSQL could not even be asked
		account, err = s.Store.AccountByUsername(ctx, username)
	}
	if err != nil && !errors.Is(err, auth.ErrUserNotFound) {
		return Tokens{}, err
	}
	exists := err == nil
	if exists {
		audit.Actor(ctx, account.ID, account.Username, account.TenantID)
	} else {
		audit.Detail(ctx, "account", "unknown") // not the name: people type passwords there
	}
	attempt, err := s.Limiter.Begin(ctx, username, from.Addr, func(ctx context.Context) (bool, error) {
		return s.Store.KnownAddress(ctx, account.Username, from.ip())
	})
	if err != nil {
		return Tokens{}, err
	}
	match, outdated, err := s.check(ctx, plain, account.PasswordHash)
	if err != nil {
		return Tokens{}, err
	}
	if !match || !exists || account.Kind != auth.KindHuman || account.Disabled || account.TenantDisabled || s.oneTimeIsOver(account) {
		if err := attempt.Fail(ctx); err != nil {
			return Tokens{}, err
		}
		return Tokens{}, auth.ErrInvalidCredentials
	}
	if err := attempt.Succeed(ctx); err != nil {
		return Tokens{}, err
	}
	if outdated {
		s.rehash(ctx, account, plain)
	}
	if account.MFAEnabled {
		return s.challenge(ctx, account)
	}
	return s.open(ctx, account, from, nil)
}

// rehash brings the hash up to the parameters of today. The login does not depend on it.
func (s *Service) rehash(ctx context.Context, account store.Account, plain string) {
	hash, err := s.hash(ctx, plain)
	if err == nil {
		err = s.Store.Rehash(ctx, account.ID, account.PasswordHash, hash)
	}
	if err != nil {
		s.Log.WarnContext(ctx, "an outdated password hash could not be renewed", "error", err, "user_id", account.ID)
	}
}

// open makes the session of an account whose password was right. prove is asked for a second factor in the same transaction; nil: there is none.
func (s *Service) open(ctx context.Context, account store.Account, from Client, prove func(store.Queries) error) (Tokens, error) {
	id, err := newID()
	if err != nil {
		return Tokens{}, err
	}
	refresh, hash := newRefreshToken()
	now := s.now()
	expires := s.sessionEnd(now, now)
	err = s.Store.InTx(ctx, func(tx store.Queries) error {
		held, err := tx.LockAccount(ctx, account.ID, nil)
		if err != nil {
			return as(err, auth.ErrUserNotFound, auth.ErrInvalidCredentials)
		}
		// Whoever changed the password or disabled the account while we hashed has ended all sessions; this one must not slip in.
		// So must none without the second factor that was set up meanwhile.
		if held.Disabled || !held.PasswordChangedAt.Equal(account.PasswordChangedAt) || held.MFAEnabled != (prove != nil) {
			return auth.ErrInvalidCredentials
		}
		if prove != nil {
			if err := prove(tx); err != nil {
				return err
			}
		}
		err = tx.InsertSession(ctx, store.NewSession{
			ID: id, UserID: account.ID, IP: from.ip(), UserAgent: from.UserAgent, Now: now, Expires: expires,
		})
		if err != nil {
			return err
		}
		return tx.InsertRefreshToken(ctx, hash, id, now, expires)
	})
	if err != nil {
		return Tokens{}, err
	}
	tokens, err := s.sign(refresh, token.Claims{UserID: account.ID, SessionID: id, TenantID: account.TenantID, Role: account.Role}, expires)
	if err != nil {
		return Tokens{}, err
	}
	tokens.ChangeRequired = account.PasswordChangeRequired
	tokens.EnrolmentRequired, err = s.owesMFA(ctx, store.HolderOf(account.User), account.TenantID, nil)
	return tokens, err
}

// Refresh exchanges a refresh token for new tokens. A token that comes a second time was stolen, then or now, so its session ends.
func (s *Service) Refresh(ctx context.Context, refresh string, from Client) (Tokens, error) {
	hash := refreshHash(refresh)
	next, nextHash := newRefreshToken()
	var owner store.SessionOwner
	var session store.HeldSession
	var reused bool
	var expires time.Time
	telling := func() []event.Auth {
		if !reused {
			return nil
		}
		return one(event.Auth{Type: event.AuthSessionRevoked, TenantID: owner.TenantID, UserID: session.UserID, SessionID: session.ID})
	}
	err := s.changing(ctx, telling, func(tx store.Queries) error {
		reused = false // the transaction may run more than once
		known, err := tx.RefreshToken(ctx, hash)
		if err != nil {
			return err
		}
		if session, err = tx.LockSession(ctx, known.SessionID); err != nil {
			return err
		}
		now := s.now()
		switch {
		case session.Revoked:
			return auth.ErrSessionRevoked
		case now.After(known.ExpiresAt) || now.After(session.ExpiresAt):
			return auth.ErrSessionExpired
		}
		if owner, err = tx.SessionOwner(ctx, session.ID); err != nil {
			return err
		}
		fresh, err := tx.UseRefreshToken(ctx, hash, now)
		if err != nil {
			return err
		}
		if !fresh {
			reused = true // and the transaction commits the revocation
			_, err := tx.RevokeSession(ctx, session.ID, session.UserID, now)
			return err
		}
		expires = s.sessionEnd(session.CreatedAt, now)
		if err := tx.TouchSession(ctx, session.ID, from.ip(), from.UserAgent, now, expires); err != nil {
			return err
		}
		return tx.InsertRefreshToken(ctx, nextHash, session.ID, now, expires)
	})
	if session.UserID != uuid.Nil {
		audit.Actor(ctx, session.UserID, "", owner.TenantID)
		audit.Target(ctx, "session", session.ID.String())
	}
	if err != nil {
		return Tokens{}, err
	}
	if reused {
		audit.Detail(ctx, "token_reuse", "the refresh token was used before; its session was ended")
		s.Log.WarnContext(ctx, "a refresh token was used twice; its session has ended", "user_id", session.UserID,
			"session_id", session.ID, "ip", from.ip())
		return Tokens{}, auth.ErrSessionRevoked.WithMessage("the refresh token was used before, so its session has ended")
	}
	s.states.forget(session.ID) // it lives longer now
	tokens, err := s.sign(next, token.Claims{UserID: owner.UserID, SessionID: session.ID, TenantID: owner.TenantID, Role: owner.Role}, expires)
	tokens.ChangeRequired = owner.ChangeRequired
	return tokens, err
}

// sign makes the answer of a login or refresh. No access token outlives its session.
func (s *Service) sign(refresh string, claims token.Claims, sessionEnd time.Time) (Tokens, error) {
	ttl := min(s.cfg.AccessTTL, sessionEnd.Sub(s.now()))
	claims.ExpiresAt = s.now().Add(ttl)
	access, err := s.Codec.Sign(claims)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{Access: access, Refresh: refresh, ExpiresIn: ttl}, nil
}

// Logout ends the caller's session.
func (s *Service) Logout(ctx context.Context, p identity.Principal) error {
	err := s.RevokeSession(ctx, p, p.SessionID)
	if errors.Is(err, auth.ErrSessionNotFound) { // somebody else was faster
		return nil
	}
	return err
}

// sessionEnd tells when a session ends that is used now for the last time.
func (s *Service) sessionEnd(created, now time.Time) time.Time {
	end := created.Add(s.cfg.SessionTTL)
	if idle := now.Add(s.cfg.RefreshTTL); idle.Before(end) {
		return idle
	}
	return end
}

// newRefreshToken makes a token of 256 random bits and the hash it is kept as. It needs no salt: nobody can guess it.
func newRefreshToken() (text string, hash []byte) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the process first
	text = "ncr_" + base64.RawURLEncoding.EncodeToString(random)
	return text, refreshHash(text)
}

func refreshHash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
