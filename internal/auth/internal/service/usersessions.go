package service

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// The permissions on other people's sessions.
const (
	PermSessionRead  = "session:read"
	PermSessionWrite = "session:write"
)

// UserSessions lists the live sessions of a user in the caller's reach.
func (s *Service) UserSessions(ctx context.Context, p identity.Principal, id uuid.UUID, after *store.After, limit int) ([]auth.Session, error) {
	if _, err := s.Store.User(ctx, id, reachOf(p, PermSessionRead)); err != nil {
		return nil, err
	}
	list, err := s.Store.Sessions(ctx, id, s.now(), after, limit)
	for i := range list {
		list[i].Current = list[i].ID == p.SessionID
	}
	return list, err
}

// RevokeUserSession ends one session of a user. Whoever may not act on the user may not end their sessions either: to throw an administrator
// out is to act on them.
func (s *Service) RevokeUserSession(ctx context.Context, p identity.Principal, id, session uuid.UUID) error {
	user, err := s.sessionOwner(ctx, p, id)
	if err != nil {
		return err
	}
	return s.endSession(ctx, event.Auth{Type: event.AuthSessionRevoked, TenantID: user.TenantID, UserID: id, SessionID: session})
}

// RevokeUserSessions ends all sessions of a user.
func (s *Service) RevokeUserSessions(ctx context.Context, p identity.Principal, id uuid.UUID) error {
	user, err := s.sessionOwner(ctx, p, id)
	if err != nil {
		return err
	}
	return s.endSessions(ctx, event.Auth{Type: event.AuthSessionsRevoked, TenantID: user.TenantID, UserID: id}, nil)
}

func (s *Service) sessionOwner(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.User, error) {
	user, err := s.Store.User(ctx, id, reachOf(p, PermSessionWrite))
	if err != nil || id == p.UserID {
		return user, err
	}
	return user, s.mayActOn(ctx, s.Store.Queries, p, user)
}
