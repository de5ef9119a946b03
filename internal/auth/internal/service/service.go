// Package service holds what the auth module does: log in, refresh, validate, and administer users, tenants and roles.
//
// Invariants: every method that acts for a caller takes the principal and stays within their tenant unless their scope is the platform;
// nobody grants, or acts on who holds, a permission they lack; whatever ends a session is known to this process before the method
// returns, and to the others within a second (see watch.go). Only authmodule builds one; httpapi is its HTTP face.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/password"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/throttle"
	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/mail"
	"github.com/novacron/novacron/internal/platform/seal"
	"github.com/novacron/novacron/internal/platform/startstop"
)

// Config is what can be tuned.
type Config struct {
	AccessTTL    time.Duration // of an access token
	RefreshTTL   time.Duration // of a refresh token: a session unused for so long ends
	SessionTTL   time.Duration // a session ends after so long, however much it is used
	CacheEntries int           // verified tokens, and as many sessions and API keys, to remember
	PasswordFile string        // of the first administrator
	// OneTimePasswordTTL is how long a one-time password works.
	OneTimePasswordTTL time.Duration
	// SelfRegistration lets anybody make an account of their own; see Register.
	SelfRegistration bool
	// RegistrationTenant is the name of the tenant that who registers joins; empty: each gets a tenant of their own.
	RegistrationTenant string
	// Issuer is the name under which authenticator apps show an account.
	Issuer string
	// ResetTTL is how long a link to reset a password works.
	ResetTTL time.Duration
	// PublicURL is where people reach the API, for links; empty: not known.
	PublicURL string
}

// Mailer sends mail. It is asked from several goroutines.
type Mailer interface {
	Send(ctx context.Context, m mail.Message) error
}

// Deps are what the service stands on.
type Deps struct {
	Store    *store.Store
	Codec    *token.Codec
	Ring     *token.Ring
	Hasher   *password.Hasher
	Limiter  *throttle.Limiter
	Counters throttle.Counters // the shared cache
	Bus      bus.Bus
	Log      *slog.Logger
	Metrics  *Metrics
	Now      func() time.Time
	// Known lists permissions that routes of this process ask for; nil where that is not known.
	Known func() []string
	// TenantHolders are the modules, besides this one, that are asked before a tenant is deleted.
	TenantHolders []string
	Box           *seal.Box // of the secrets of authenticator apps
	Mail          Mailer    // nil: there is none
}

// Service is the auth module's logic. It implements auth.Service.
type Service struct {
	cfg Config
	Deps
	tokens *tokenCache
	states *stateCache[uuid.UUID, *sessionState]
	keys   *stateCache[string, *keyState] // by prefix
	uses   *useLog
	watch  *watch

	codes   *throttle.Limiter // of guesses at second factors
	resets  *throttle.Limiter // of wishes for a link, and of links that do not work
	postman startstop.Loop    // sends the links
}

var _ auth.Service = (*Service)(nil)

// New makes a Service. Start makes it listen for changes that other processes make.
func New(cfg Config, deps Deps) (*Service, error) {
	tokens, err := newTokenCache(cfg.CacheEntries)
	if err != nil {
		return nil, err
	}
	states, err := newStateCache[uuid.UUID, *sessionState](cfg.CacheEntries)
	if err != nil {
		return nil, err
	}
	keys, err := newStateCache[string, *keyState](cfg.CacheEntries)
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, Deps: deps, tokens: tokens, states: states, keys: keys, uses: newUseLog()}
	s.watch = newWatch(s)
	s.codes, s.resets = deps.Limiter.Named("code", throttle.CodeRules()), deps.Limiter.Named("reset", throttle.ResetRules())
	return s, nil
}

// now gives the time as PostgreSQL keeps it.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

// hash makes the hash of a new password.
func (s *Service) hash(ctx context.Context, plain string) (string, error) {
	begun := time.Now()
	hash, err := s.Hasher.Hash(ctx, plain)
	s.Metrics.hashed(time.Since(begun))
	return hash, busy(err)
}

// check compares a password with a hash; the empty hash is nobody's.
func (s *Service) check(ctx context.Context, plain, hash string) (match, outdated bool, err error) {
	begun := time.Now()
	match, outdated, err = s.Hasher.Verify(ctx, plain, hash)
	s.Metrics.hashed(time.Since(begun))
	return match, outdated, busy(err)
}

func busy(err error) error {
	if errors.Is(err, password.ErrBusy) {
		return auth.ErrBusy.Wrap(err)
	}
	return err
}

// acceptable fails with ErrWeakPassword on a password that may not be set.
func acceptable(plain string, u auth.User, field string) error {
	if complaint := password.Complaint(plain, u.Username, u.Email); complaint != "" {
		return auth.ErrWeakPassword.WithMessage("the password %s", complaint).WithField("body."+field, complaint, "")
	}
	return nil
}

func newID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make id: %w", err)
	}
	return id, nil
}

// as turns one error of the contract into another and leaves the rest alone.
func as(err error, from, to *errs.Error) error {
	if errors.Is(err, from) {
		return to
	}
	return err
}
