package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/platform/identity"
)

const (
	// stateTTL bounds how long a session is believed in although nothing was heard of it.
	stateTTL = 30 * time.Second
	// certainty is how old the knowledge may be that no change was missed.
	certainty = time.Second
)

// ValidateToken tells who an access token belongs to. In the common case it asks nobody: the token was verified before, its session was
// read before, and the watch vouches that nothing has changed since.
func (s *Service) ValidateToken(ctx context.Context, req auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error) {
	resp, err := s.validate(ctx, req.Token)
	s.Metrics.validated(err)
	return resp, err
}

func (s *Service) validate(ctx context.Context, text string) (auth.ValidateTokenResponse, error) {
	claims, err := s.verify(text)
	if err != nil {
		return auth.ValidateTokenResponse{}, err
	}
	now := s.Now()
	if now.After(claims.ExpiresAt.Add(token.Leeway)) {
		return auth.ValidateTokenResponse{}, auth.ErrTokenExpired
	}
	state, known := s.states.entries.GetIfPresent(claims.SessionID)
	if !known || !s.watch.vouches(state.read, now) {
		if state, err = s.readState(ctx, claims); err != nil {
			return auth.ValidateTokenResponse{}, err
		}
	}
	switch {
	case state.over:
		return auth.ValidateTokenResponse{}, auth.ErrSessionRevoked
	case now.After(state.expires):
		return auth.ValidateTokenResponse{}, auth.ErrSessionExpired
	case state.principal.UserID != claims.UserID || state.principal.TenantID != claims.TenantID:
		return auth.ValidateTokenResponse{}, auth.ErrInvalidToken.Wrap(errors.New("it and its session name different holders"))
	}
	return auth.ValidateTokenResponse{Principal: state.principal, ExpiresAt: claims.ExpiresAt}, nil
}

// verify checks signature and claims, or remembers having done so.
func (s *Service) verify(text string) (*token.Claims, error) {
	if len(text) > auth.MaxTokenBytes || text == "" {
		return nil, auth.ErrInvalidToken
	}
	key := sha256.Sum256([]byte(text))
	if claims, known := s.tokens.entries.GetIfPresent(key); known {
		return claims, nil
	}
	claims, err := s.Codec.Verify(text)
	if err != nil {
		return nil, err
	}
	s.tokens.entries.Set(key, &claims)
	return &claims, nil
}

// readState asks the database about the session of a token.
func (s *Service) readState(ctx context.Context, claims *token.Claims) (*sessionState, error) {
	mark := s.states.mark()
	state := &sessionState{read: s.Now()}
	owner, err := s.Store.SessionOwner(ctx, claims.SessionID)
	switch {
	case errors.Is(err, auth.ErrSessionRevoked):
		state.over = true
	case err != nil:
		return nil, auth.ErrUnavailable.Wrap(err)
	default:
		state.expires = owner.ExpiresAt
		if state.principal, err = s.principal(ctx, owner, claims); err != nil {
			return nil, auth.ErrUnavailable.Wrap(err)
		}
	}
	s.states.remember(mark, claims.SessionID, state)
	return state, nil
}

// principal gives the session's holder as they are now, whatever the token says of their role.
func (s *Service) principal(ctx context.Context, owner store.SessionOwner, claims *token.Claims) (identity.Principal, error) {
	p := identity.Principal{
		UserID: owner.UserID, Username: owner.Username, TenantID: owner.TenantID, Role: owner.Role, Scope: identity.ScopeTenant,
		SessionID: claims.SessionID,
	}
	role, err := s.Store.Role(ctx, owner.Role, owner.TenantID)
	if errors.Is(err, auth.ErrUnknownRole) { // a role that is gone allows nothing
		return p, nil
	}
	p.Permissions, p.Scope = role.Permissions, role.Scope
	return p, err
}

// GetUserPermissions tells what a user may do.
func (s *Service) GetUserPermissions(ctx context.Context, req auth.GetUserPermissionsRequest) (auth.GetUserPermissionsResponse, error) {
	u, err := s.Store.User(ctx, req.UserID, nil)
	if err != nil {
		return auth.GetUserPermissionsResponse{}, err
	}
	if u.Disabled {
		return auth.GetUserPermissionsResponse{}, auth.ErrUserNotFound
	}
	role, err := s.Store.Role(ctx, u.Role, u.TenantID)
	if err != nil && !errors.Is(err, auth.ErrUnknownRole) {
		return auth.GetUserPermissionsResponse{}, err
	}
	return auth.GetUserPermissionsResponse{Permissions: append([]string{}, role.Permissions...)}, nil
}
