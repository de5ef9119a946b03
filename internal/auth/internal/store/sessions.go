package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
)

// NewSession is what a login leaves behind.
type NewSession struct {
	ID, UserID    uuid.UUID
	IP, UserAgent string
	Now, Expires  time.Time
}

// SessionOwner is who holds a live session.
type SessionOwner struct {
	UserID, TenantID uuid.UUID
	Username, Role   string
	ExpiresAt        time.Time
	ChangeRequired   bool // of the password, before anything else
}

// HeldSession is a session that the transaction has locked.
type HeldSession struct {
	ID, UserID uuid.UUID
	CreatedAt  time.Time
	ExpiresAt  time.Time
	Revoked    bool
}

// RefreshToken is what is known of an issued refresh token.
type RefreshToken struct {
	SessionID uuid.UUID
	ExpiresAt time.Time
}

// InsertSession keeps a session and notes the login.
func (q Queries) InsertSession(ctx context.Context, s NewSession) error {
	err := q.q.SessionInsert(ctx, q.db, authdb.SessionInsertParams{
		ID: s.ID, UserID: s.UserID, IP: s.IP, UserAgent: s.UserAgent, Now: s.Now, ExpiresAt: s.Expires,
	})
	if err == nil {
		err = q.q.UserTouchLogin(ctx, q.db, authdb.UserTouchLoginParams{ID: s.UserID, Now: &s.Now})
	}
	return mapErr("insert session", err, nil)
}

// SessionOwner tells who holds a session; ErrSessionRevoked where it, its user or its tenant is out of use.
func (q Queries) SessionOwner(ctx context.Context, id uuid.UUID) (SessionOwner, error) {
	row, err := q.q.SessionPrincipal(ctx, q.db, id)
	return SessionOwner{UserID: row.UserID, TenantID: row.TenantID, Username: row.Username, Role: row.Role, ExpiresAt: row.ExpiresAt,
			ChangeRequired: row.PasswordChangeRequired},
		mapErr("read session", err, auth.ErrSessionRevoked)
}

// LockSession gives a session and holds it until the transaction ends; ErrSessionRevoked where it is gone.
func (q Queries) LockSession(ctx context.Context, id uuid.UUID) (HeldSession, error) {
	row, err := q.q.SessionGetForUpdate(ctx, q.db, id)
	return HeldSession{ID: row.ID, UserID: row.UserID, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt, Revoked: row.RevokedAt != nil},
		mapErr("lock session", err, auth.ErrSessionRevoked)
}

// Session gives a live session of the user, or ErrSessionNotFound.
func (q Queries) Session(ctx context.Context, id, userID uuid.UUID, now time.Time) (auth.Session, error) {
	row, err := q.q.SessionGetOwn(ctx, q.db, authdb.SessionGetOwnParams{ID: id, UserID: userID, Now: now})
	return session(row), mapErr("read session", err, auth.ErrSessionNotFound)
}

// Sessions lists the live sessions of the user, newest first.
func (q Queries) Sessions(ctx context.Context, userID uuid.UUID, now time.Time, after *After, limit int) ([]auth.Session, error) {
	t, id := after.split()
	rows, err := q.q.SessionListOwn(ctx, q.db, authdb.SessionListOwnParams{
		UserID: userID, Now: now, AfterTime: t, AfterID: id, MaxRows: int32(limit),
	})
	return convert(rows, session), mapErr("list sessions", err, nil)
}

// TouchSession notes that the session was refreshed.
func (q Queries) TouchSession(ctx context.Context, id uuid.UUID, ip, userAgent string, now, expires time.Time) error {
	return mapErr("touch session", q.q.SessionTouch(ctx, q.db, authdb.SessionTouchParams{
		ID: id, IP: ip, UserAgent: userAgent, Now: now, ExpiresAt: expires,
	}), nil)
}

// RevokeSession ends one session of the user; false means that there was nothing to end.
func (q Queries) RevokeSession(ctx context.Context, id, userID uuid.UUID, now time.Time) (bool, error) {
	n, err := q.q.SessionRevoke(ctx, q.db, authdb.SessionRevokeParams{ID: id, UserID: userID, Now: &now})
	return n > 0, mapErr("revoke session", err, nil)
}

// RevokeSessions ends all sessions of the user but keep; nil keeps none.
func (q Queries) RevokeSessions(ctx context.Context, userID uuid.UUID, keep *uuid.UUID, now time.Time) error {
	_, err := q.q.SessionRevokeAll(ctx, q.db, authdb.SessionRevokeAllParams{UserID: userID, Keep: keep, Now: &now})
	return mapErr("revoke sessions", err, nil)
}

// KnownAddress tells whether the account has ever had a session, still kept, from the address.
func (q Queries) KnownAddress(ctx context.Context, username, ip string) (bool, error) {
	known, err := q.q.SessionFromAddress(ctx, q.db, authdb.SessionFromAddressParams{Username: username, IP: ip})
	return known, mapErr("look for sessions from an address", err, nil)
}

// KnownAddressOf is KnownAddress for an account that is known.
func (q Queries) KnownAddressOf(ctx context.Context, userID uuid.UUID, ip string) (bool, error) {
	known, err := q.q.SessionOfUserFromAddress(ctx, q.db, authdb.SessionOfUserFromAddressParams{UserID: userID, IP: ip})
	return known, mapErr("look for sessions from an address", err, nil)
}

// InsertRefreshToken keeps the hash of a refresh token.
func (q Queries) InsertRefreshToken(ctx context.Context, hash []byte, sessionID uuid.UUID, now, expires time.Time) error {
	return mapErr("insert refresh token", q.q.RefreshInsert(ctx, q.db, authdb.RefreshInsertParams{
		TokenHash: hash, SessionID: sessionID, IssuedAt: now, ExpiresAt: expires,
	}), nil)
}

// RefreshToken gives what is known of a refresh token, or ErrInvalidToken.
func (q Queries) RefreshToken(ctx context.Context, hash []byte) (RefreshToken, error) {
	row, err := q.q.RefreshGet(ctx, q.db, hash)
	return RefreshToken{SessionID: row.SessionID, ExpiresAt: row.ExpiresAt}, mapErr("read refresh token", err, auth.ErrInvalidToken)
}

// UseRefreshToken marks a refresh token as used; false means that it had been.
func (q Queries) UseRefreshToken(ctx context.Context, hash []byte, now time.Time) (bool, error) {
	n, err := q.q.RefreshUse(ctx, q.db, authdb.RefreshUseParams{TokenHash: hash, Now: &now})
	return n > 0, mapErr("use refresh token", err, nil)
}

// Prune forgets sessions and refresh tokens that expired before the given times.
func (q Queries) Prune(ctx context.Context, sessionsBefore, tokensBefore time.Time) (sessions, tokens int64, err error) {
	sessions, err = q.q.SessionPrune(ctx, q.db, sessionsBefore)
	if err == nil {
		tokens, err = q.q.RefreshPrune(ctx, q.db, tokensBefore)
	}
	return sessions, tokens, mapErr("prune sessions", err, nil)
}

func session(r authdb.Session) auth.Session {
	return auth.Session{
		ID: r.ID, UserID: r.UserID, IP: r.IP, UserAgent: r.UserAgent, CreatedAt: r.CreatedAt.UTC(), LastUsedAt: r.LastUsedAt.UTC(),
		ExpiresAt: r.ExpiresAt.UTC(),
	}
}
