package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
)

// ResetRequest is a wish for a link, not yet looked at.
type ResetRequest struct {
	ID    uuid.UUID
	Email string
	IP    string
	Tries int
}

// Reset is what is known of a link that resets a password.
type Reset struct {
	UserID            uuid.UUID
	PasswordChangedAt time.Time // the link works while that is still so
	ExpiresAt         time.Time
}

// InsertResetRequest writes a wish for a link down.
func (q Queries) InsertResetRequest(ctx context.Context, r ResetRequest, now time.Time) error {
	return mapErr("note reset request", q.q.ResetRequestInsert(ctx, q.db, authdb.ResetRequestInsertParams{ID: r.ID, Email: r.Email, IP: r.IP, Now: now}), nil)
}

// TakeResetRequests gives requests that are due, oldest first. They are due again at next unless they are removed.
func (q Queries) TakeResetRequests(ctx context.Context, now, next time.Time, most int) ([]ResetRequest, error) {
	rows, err := q.q.ResetRequestTake(ctx, q.db, authdb.ResetRequestTakeParams{Now: now, NextTryAt: next, MaxRows: int32(most)})
	return convert(rows, func(r authdb.PasswordResetRequest) ResetRequest {
		return ResetRequest{ID: r.ID, Email: r.Email, IP: r.IP, Tries: int(r.Tries)}
	}), mapErr("take reset requests", err, nil)
}

// PostponeResetRequest has a request tried again at a time of its own.
func (q Queries) PostponeResetRequest(ctx context.Context, id uuid.UUID, next time.Time) error {
	return mapErr("put reset request off", q.q.ResetRequestPostpone(ctx, q.db, authdb.ResetRequestPostponeParams{ID: id, NextTryAt: next}), nil)
}

// DeleteResetRequest removes a request that has been dealt with.
func (q Queries) DeleteResetRequest(ctx context.Context, id uuid.UUID) error {
	return mapErr("remove reset request", q.q.ResetRequestDelete(ctx, q.db, id), nil)
}

// ReplaceReset keeps a link by the hash of its token and ends every other one of the user.
func (q Queries) ReplaceReset(ctx context.Context, hash []byte, r Reset) error {
	err := q.q.ResetClear(ctx, q.db, r.UserID)
	if err == nil {
		err = q.q.ResetInsert(ctx, q.db, authdb.ResetInsertParams{
			TokenHash: hash, UserID: r.UserID, PasswordChangedAt: r.PasswordChangedAt, ExpiresAt: r.ExpiresAt,
		})
	}
	return mapErr("keep reset link", err, nil)
}

// Reset gives a link, or ErrResetToken.
func (q Queries) Reset(ctx context.Context, hash []byte) (Reset, error) {
	row, err := q.q.ResetGet(ctx, q.db, hash)
	return reset(row), mapErr("read reset link", err, auth.ErrResetToken)
}

// LockReset gives a link and holds it until the transaction ends.
func (q Queries) LockReset(ctx context.Context, hash []byte) (Reset, error) {
	row, err := q.q.ResetGetForUpdate(ctx, q.db, hash)
	return reset(row), mapErr("lock reset link", err, auth.ErrResetToken)
}

// ClearResets ends every link of a user.
func (q Queries) ClearResets(ctx context.Context, userID uuid.UUID) error {
	return mapErr("end reset links", q.q.ResetClear(ctx, q.db, userID), nil)
}

// AccountByEmail gives the account of an e-mail address, whatever its case, or ErrUserNotFound.
func (q Queries) AccountByEmail(ctx context.Context, email string) (Account, error) {
	row, err := q.q.UserGetByEmail(ctx, q.db, email)
	return Account{User: user(row.User), PasswordHash: row.User.PasswordHash, TenantDisabled: row.TenantDisabled},
		mapErr("find user by address", err, auth.ErrUserNotFound)
}

// PruneWaiting forgets challenges and links that have expired.
func (q Queries) PruneWaiting(ctx context.Context, before time.Time) error {
	_, err := q.q.ChallengePrune(ctx, q.db, before)
	if err == nil {
		_, err = q.q.ResetPrune(ctx, q.db, before)
	}
	return mapErr("forget challenges and links", err, nil)
}

func reset(r authdb.PasswordReset) Reset {
	return Reset{UserID: r.UserID, PasswordChangedAt: r.PasswordChangedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC()}
}
