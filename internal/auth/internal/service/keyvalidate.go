package service

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/apikey"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/platform/identity"
)

// keyState is what was true of an API key when it was read.
type keyState struct {
	principal identity.Principal
	secrets   []store.APIKeySecret
	expires   *time.Time // of the key
	over      bool       // revoked, or its owner or their tenant is out of use
	read      time.Time
	noted     atomic.Int64 // when its use was last passed on, in Unix nanoseconds
}

// find gives the secret with the hash, or nil. Every secret is looked at, and each for the same time.
func (st *keyState) find(hash apikey.Hash) *store.APIKeySecret {
	var found *store.APIKeySecret
	for i := range st.secrets {
		if subtle.ConstantTimeCompare(st.secrets[i].Hash[:], hash[:]) == 1 {
			found = &st.secrets[i]
		}
	}
	return found
}

// ValidateAPIKey tells who an API key belongs to and what it may do. In the common case it asks nobody, as with access tokens: the key was read
// before, and the watch vouches that nothing has changed since.
//
// A key that is remembered is let through whatever others at its address do. All else counts: what is no key, and a secret that is wrong.
func (s *Service) ValidateAPIKey(ctx context.Context, req auth.ValidateAPIKeyRequest) (auth.ValidateAPIKeyResponse, error) {
	resp, err := s.validateKey(ctx, req.Key, req.Client.Unmap().WithZone(""))
	s.Metrics.keyValidated(err)
	return resp, err
}

func (s *Service) validateKey(ctx context.Context, text string, from netip.Addr) (auth.ValidateAPIKeyResponse, error) {
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
	ends := state.expires
	if secret.Until != nil && (ends == nil || secret.Until.Before(*ends)) {
		ends = secret.Until
	}
	switch {
	case state.over:
		return auth.ValidateAPIKeyResponse{}, auth.ErrAPIKeyRevoked
	case ends != nil && !now.Before(*ends) && ends == secret.Until:
		return auth.ValidateAPIKeyResponse{}, auth.ErrAPIKeyExpired.WithMessage("the key was rotated, and the time of its old secret is over").
			WithAction("Use the new secret.")
	case ends != nil && !now.Before(*ends):
		return auth.ValidateAPIKeyResponse{}, auth.ErrAPIKeyExpired
	}
	if last := state.noted.Load(); now.UnixNano()-last > int64(useGrain) && state.noted.CompareAndSwap(last, now.UnixNano()) {
		s.uses.note(state.principal.APIKeyID, store.APIKeyUse{At: now.UTC(), From: from})
	}
	return auth.ValidateAPIKeyResponse{Principal: state.principal, ExpiresAt: ends}, nil
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
	state.over, state.expires, state.secrets = holder.Over, holder.ExpiresAt, holder.Secrets
	owner, err := s.principal(ctx, holder.Owner, &token.Claims{})
	if err != nil {
		return nil, nil, auth.ErrUnavailable.WithMessage("what the API key may do cannot be told at this moment").Wrap(err)
	}
	state.principal = auth.KeyPrincipal(owner, holder.ID, holder.Permissions, holder.Scope)
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
