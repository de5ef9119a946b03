package service

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/apikey"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/identity"
)

// keyState is what was true of an API key when it was read.
type keyState struct {
	store.APIKeyHolder
	home  identity.Principal // acting at its owner's home; nobody where the key is over
	read  time.Time
	noted atomic.Int64 // when its use was last passed on, in Unix nanoseconds

	elsewhere places // acting in other tenants, as far as was asked
}

// find gives the secret with the hash, or nil. Every secret is looked at, and each for the same time.
func (st *keyState) find(hash apikey.Hash) *store.APIKeySecret {
	var found *store.APIKeySecret
	for i := range st.Secrets {
		if subtle.ConstantTimeCompare(st.Secrets[i].Hash[:], hash[:]) == 1 {
			found = &st.Secrets[i]
		}
	}
	return found
}

// ValidateAPIKey tells who an API key belongs to and what it may do. In the common case it asks nobody, as with access tokens: the key was read
// before, and the watch vouches that nothing has changed since.
//
// A key that is remembered is let through whatever others at its address do. All else counts: what is no key, and a secret that is wrong.
func (s *Service) ValidateAPIKey(ctx context.Context, req auth.ValidateAPIKeyRequest) (auth.ValidateAPIKeyResponse, error) {
	resp, err := s.validateKey(ctx, req.Key, req.TenantID, req.Client.Unmap().WithZone(""))
	s.Metrics.keyValidated(err)
	return resp, err
}

func (s *Service) validateKey(ctx context.Context, text string, tenantID uuid.UUID, from netip.Addr) (auth.ValidateAPIKeyResponse, error) {
	prefix, wellFormed := apikey.Parse(text)
	if !wellFormed {
		return auth.ValidateAPIKeyResponse{}, s.wrongKey(ctx, from)
	}
	hash, now := apikey.HashOf(text), s.Now()
	var secret *store.APIKeySecret
	state, known := s.keys.entries.GetIfPresent(prefix)
	if known {
		secret = state.find(hash)
	}
	if secret == nil || !s.watch.vouches(state.read, now) {
		var err error
		if state, secret, err = s.readKey(ctx, prefix, hash, secret != nil, from); err != nil {
			return auth.ValidateAPIKeyResponse{}, err
		}
	}
	ends := state.ExpiresAt
	if secret.Until != nil && (ends == nil || secret.Until.Before(*ends)) {
		ends = secret.Until
	}
	switch {
	case state.Over:
		return auth.ValidateAPIKeyResponse{}, auth.ErrAPIKeyRevoked
	case ends != nil && !now.Before(*ends) && ends == secret.Until:
		return auth.ValidateAPIKeyResponse{}, auth.ErrAPIKeyExpired.WithMessage("the key was rotated, and the time of its old secret is over").
			WithAction("Use the new secret.")
	case ends != nil && !now.Before(*ends):
		return auth.ValidateAPIKeyResponse{}, auth.ErrAPIKeyExpired
	}
	if last := state.noted.Load(); now.UnixNano()-last > int64(useGrain) && state.noted.CompareAndSwap(last, now.UnixNano()) {
		s.uses.note(state.ID, store.APIKeyUse{At: now.UTC(), From: from})
	}
	if tenantID == uuid.Nil || tenantID == state.Owner.HomeID {
		return auth.ValidateAPIKeyResponse{Principal: state.home, ExpiresAt: ends}, nil
	}
	p := state.elsewhere.in(tenantID)
	if p == nil {
		var err error
		if p, err = s.keyPrincipal(ctx, state.APIKeyHolder, tenantID); err != nil {
			return auth.ValidateAPIKeyResponse{}, unknownPower(err)
		}
		if p.Role == "" {
			return auth.ValidateAPIKeyResponse{}, auth.ErrNoRole
		}
		state.elsewhere.remember(tenantID, p)
	}
	return auth.ValidateAPIKeyResponse{Principal: *p, ExpiresAt: ends}, nil
}

func unknownPower(err error) error {
	return auth.ErrUnavailable.WithMessage("what the API key may do cannot be told at this moment").Wrap(err)
}

// keyPrincipal gives the principal as whom a key acts in a tenant: what its owner may do there, within the bounds of the key. Whoever has no role
// there has none by name.
func (s *Service) keyPrincipal(ctx context.Context, k store.APIKeyHolder, tenantID uuid.UUID) (*identity.Principal, error) {
	rows, err := s.Store.Grants(ctx, k.Owner, tenantID, false)
	if err != nil {
		return nil, err
	}
	if k.Scope != identity.ScopePlatform {
		if rows, err = s.keepNear(ctx, rows, tenantID == k.Owner.HomeID); err != nil {
			return nil, err
		}
	}
	held := sum(rows)
	p := identity.Principal{UserID: k.Owner.ID, Username: k.Username, HomeID: k.Owner.HomeID}
	// A key of somebody who must have a second factor and has none is no way around it.
	if owed, err := s.owesMFA(ctx, k.Owner, tenantID, held.Roles); err != nil {
		return nil, err
	} else if owed {
		p.Pending, held.Permissions, held.Platform = identity.PendingMFA, nil, nil
	}
	p = empower(p, tenantID, held)
	bound := identity.KeyBound{Scope: k.Scope}
	if k.Permissions != nil {
		roles, err := s.grants(ctx, s.Store.Queries, store.Holder{Kind: auth.PrincipalAPIKey, ID: k.ID}, tenantID, false)
		if err != nil {
			return nil, err
		}
		bound.Bounded = true
		bound.Permissions = slices.Concat(k.Permissions, roles.Permissions)
		bound.Platform = slices.Concat(k.Permissions, roles.Platform)
	}
	p = p.WithKey(k.ID, bound)
	return &p, nil
}

// keepNear takes from grants what reaches beyond the tenant that they are for: there, a role that reaches every tenant counts at its holder's home only,
// and gives what belongs to tenants and nothing of the installation.
func (s *Service) keepNear(ctx context.Context, rows []store.Grant, home bool) ([]store.Grant, error) {
	var near []store.Grant
	for _, g := range rows {
		switch {
		case g.Reach != store.ReachPlatform:
			near = append(near, g)
		case home:
			permissions, err := inTenant(ctx, s.Store.Queries, g.Permissions)
			if err != nil {
				return nil, err
			}
			near = append(near, store.Grant{Role: g.Role, Reach: store.ReachTenant, Permissions: permissions})
		}
	}
	return near, nil
}

// readKey asks the database about a key. proven says that this very secret was found right before, so that wrong ones of others at its address
// do not matter.
func (s *Service) readKey(ctx context.Context, prefix string, hash apikey.Hash, proven bool, from netip.Addr) (*keyState, *store.APIKeySecret, error) {
	if !proven {
		// Where wrong keys cannot be counted the question is asked all the same: nobody guesses 256 bits, and what follows is certain.
		if err := s.Limiter.RefuseKeys(ctx, from); errors.Is(err, auth.ErrThrottled) {
			return nil, nil, err
		}
	}
	s.Metrics.keyReads.Inc()
	mark := s.keys.mark()
	state := &keyState{read: s.Now()}
	holder, err := s.Store.APIKeyHolder(ctx, prefix)
	if errors.Is(err, auth.ErrInvalidAPIKey) {
		return nil, nil, s.wrongKey(ctx, from)
	}
	if err != nil {
		return nil, nil, auth.ErrUnavailable.WithMessage("whether the API key still counts cannot be told at this moment").Wrap(err)
	}
	state.APIKeyHolder = holder
	if !holder.Over {
		home, err := s.keyPrincipal(ctx, holder, holder.Owner.HomeID)
		if err != nil {
			return nil, nil, unknownPower(err)
		}
		if home.Role == "" { // a role that is gone allows nothing, but has a name
			home.Role = holder.Owner.HomeRole
		}
		state.home = *home
	}
	s.keys.remember(mark, prefix, state)
	secret := state.find(hash)
	if secret == nil {
		return nil, nil, s.wrongKey(ctx, from)
	}
	return state, secret, nil
}

// wrongKey counts a wrong key and gives the answer to it.
func (s *Service) wrongKey(ctx context.Context, from netip.Addr) error {
	if err := s.Limiter.RefuseKeys(ctx, from); errors.Is(err, auth.ErrThrottled) {
		return err
	}
	// The answer is no either way; that the cache does not answer is the watch's to say.
	_ = s.Limiter.WrongKey(ctx, from)
	return auth.ErrInvalidAPIKey
}
