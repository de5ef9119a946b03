package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/google/uuid"

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
	resp, err := s.validate(ctx, req.Token, req.TenantID)
	s.Metrics.validated(err)
	return resp, err
}

func (s *Service) validate(ctx context.Context, text string, tenantID uuid.UUID) (auth.ValidateTokenResponse, error) {
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
	case state.principal.UserID != claims.UserID || state.principal.HomeID != claims.TenantID:
		return auth.ValidateTokenResponse{}, auth.ErrInvalidToken.Wrap(errors.New("it and its session name different holders"))
	}
	p, err := s.acting(ctx, state, tenantID)
	return auth.ValidateTokenResponse{Principal: p, ExpiresAt: claims.ExpiresAt}, err
}

// acting gives the session's holder as they act in a tenant; nil is their own.
func (s *Service) acting(ctx context.Context, state *sessionState, tenantID uuid.UUID) (identity.Principal, error) {
	if tenantID == uuid.Nil || tenantID == state.principal.HomeID {
		return state.principal, nil
	}
	if p := state.elsewhere.in(tenantID); p != nil {
		return *p, nil
	}
	h := store.Holder{Kind: auth.PrincipalUser, ID: state.principal.UserID, HomeID: state.principal.HomeID, HomeRole: state.homeRole}
	g, err := s.grants(ctx, s.Store.Queries, h, tenantID, false)
	switch {
	case err != nil:
		return identity.Principal{}, auth.ErrUnavailable.Wrap(err)
	case g.None():
		return identity.Principal{}, auth.ErrNoRole
	}
	home := state.principal
	if home.Pending == "" {
		if owed, err := s.owesMFA(ctx, h, tenantID, g.Roles); err != nil {
			return identity.Principal{}, auth.ErrUnavailable.Wrap(err)
		} else if owed {
			home.Pending = identity.PendingMFA
		}
	}
	if home.Pending != "" {
		g.Permissions, g.Platform = nil, nil
	}
	p := empower(home, tenantID, g)
	state.elsewhere.remember(tenantID, &p)
	return p, nil
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
		state.expires, state.homeRole = owner.ExpiresAt, owner.Role
		if state.principal, err = s.principal(ctx, owner, claims); err != nil {
			return nil, auth.ErrUnavailable.Wrap(err)
		}
	}
	s.states.remember(mark, claims.SessionID, state)
	return state, nil
}

// principal gives the session's holder as they are now, whatever the token says of their role.
func (s *Service) principal(ctx context.Context, owner store.SessionOwner, claims *token.Claims) (identity.Principal, error) {
	p := identity.Principal{UserID: owner.UserID, Username: owner.Username, HomeID: owner.TenantID, SessionID: claims.SessionID}
	h := store.Holder{Kind: auth.PrincipalUser, ID: owner.UserID, HomeID: owner.TenantID, HomeRole: owner.Role}
	g, err := s.grants(ctx, s.Store.Queries, h, owner.TenantID, false)
	if err != nil {
		return p, err
	}
	owed, err := s.owesMFA(ctx, h, owner.TenantID, g.Roles)
	switch {
	case err != nil:
		return p, err
	case owner.ChangeRequired:
		p.Pending = identity.PendingPassword
	case owed:
		p.Pending = identity.PendingMFA
	}
	if p.Pending != "" {
		g.Permissions, g.Platform = nil, nil
	}
	p = empower(p, owner.TenantID, g)
	if p.Role == "" { // a role that is gone allows nothing, but has a name
		p.Role = owner.Role
	}
	return p, nil
}

// GetUserPermissions tells what a user may do.
func (s *Service) GetUserPermissions(ctx context.Context, req auth.GetUserPermissionsRequest) (auth.GetUserPermissionsResponse, error) {
	g, err := s.UserGrants(ctx, req.UserID, req.TenantID)
	if err != nil {
		return auth.GetUserPermissionsResponse{}, err
	}
	return auth.GetUserPermissionsResponse{
		Permissions: append([]string{}, g.Permissions...), Platform: append([]string{}, g.Platform...), Roles: append([]string{}, g.Roles...),
	}, nil
}
