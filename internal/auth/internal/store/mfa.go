package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
	"github.com/novacron/novacron/internal/platform/pg"
)

// TOTP is what is kept of a user's authenticator app. The zero value is that of a user who has none.
type TOTP struct {
	Secret       []byte     // sealed; nil: none is in force
	EnabledAt    *time.Time // of Secret
	LastStep     int64      // of the codes of Secret that were accepted
	Pending      []byte     // sealed; made and not confirmed yet
	PendingUntil *time.Time
}

func totpOf(r authdb.MfaTotp) TOTP {
	return TOTP{Secret: r.Secret, EnabledAt: utc(r.EnabledAt), LastStep: r.LastStep, Pending: r.PendingSecret, PendingUntil: utc(r.PendingUntil)}
}

// TOTP gives what is kept of a user's app.
func (q Queries) TOTP(ctx context.Context, userID uuid.UUID) (TOTP, error) {
	row, err := q.q.TotpGet(ctx, q.db, userID)
	if pg.NotFound(err) {
		return TOTP{}, nil
	}
	return totpOf(row), mapErr("read authenticator", err, nil)
}

// LockTOTP gives what is kept of a user's app and holds it until the transaction ends. Where there is nothing the transaction must hold the account.
func (q Queries) LockTOTP(ctx context.Context, userID uuid.UUID) (TOTP, error) {
	row, err := q.q.TotpGetForUpdate(ctx, q.db, userID)
	if pg.NotFound(err) {
		return TOTP{}, nil
	}
	return totpOf(row), mapErr("lock authenticator", err, nil)
}

// ProposeTOTP keeps a sealed secret that is not confirmed yet.
func (q Queries) ProposeTOTP(ctx context.Context, userID uuid.UUID, sealed []byte, until time.Time) error {
	return mapErr("keep new authenticator", q.q.TotpPropose(ctx, q.db, authdb.TotpProposeParams{UserID: userID, Secret: sealed, Until: &until}), nil)
}

// ConfirmTOTP puts the secret that waits in force, with the step of the code that confirmed it.
func (q Queries) ConfirmTOTP(ctx context.Context, userID uuid.UUID, step int64, now time.Time) error {
	err := q.q.TotpConfirm(ctx, q.db, authdb.TotpConfirmParams{UserID: userID, Step: step, Now: now})
	if err == nil {
		err = q.q.UserSetMFA(ctx, q.db, authdb.UserSetMFAParams{ID: userID, Enabled: true, Now: now})
	}
	return mapErr("confirm authenticator", err, nil)
}

// UseTOTP notes that the code of a step was used; false means that it or a later one had been.
func (q Queries) UseTOTP(ctx context.Context, userID uuid.UUID, step int64) (bool, error) {
	n, err := q.q.TotpUse(ctx, q.db, authdb.TotpUseParams{UserID: userID, Step: step})
	return n > 0, mapErr("use code", err, nil)
}

// RemoveMFA takes everything away that a user's second factor is made of.
func (q Queries) RemoveMFA(ctx context.Context, userID uuid.UUID, now time.Time) error {
	_, err := q.q.TotpDelete(ctx, q.db, userID)
	if err == nil {
		err = q.q.RecoveryClear(ctx, q.db, userID)
	}
	if err == nil {
		err = q.q.ChallengeClear(ctx, q.db, userID)
	}
	if err == nil {
		err = q.q.UserSetMFA(ctx, q.db, authdb.UserSetMFAParams{ID: userID, Enabled: false, Now: now})
	}
	return mapErr("remove second factor", err, nil)
}

// ReplaceRecoveryCodes keeps the hashes of new recovery codes instead of the old ones.
func (q Queries) ReplaceRecoveryCodes(ctx context.Context, userID uuid.UUID, hashes [][]byte) error {
	err := q.q.RecoveryClear(ctx, q.db, userID)
	if err == nil {
		err = q.q.RecoveryInsert(ctx, q.db, authdb.RecoveryInsertParams{UserID: userID, CodeHashes: hashes})
	}
	return mapErr("replace recovery codes", err, nil)
}

// UseRecoveryCode removes a recovery code; false means that there was none.
func (q Queries) UseRecoveryCode(ctx context.Context, userID uuid.UUID, hash []byte) (bool, error) {
	n, err := q.q.RecoveryUse(ctx, q.db, authdb.RecoveryUseParams{UserID: userID, CodeHash: hash})
	return n > 0, mapErr("use recovery code", err, nil)
}

// RecoveryCodesLeft counts the recovery codes of a user.
func (q Queries) RecoveryCodesLeft(ctx context.Context, userID uuid.UUID) (int, error) {
	n, err := q.q.RecoveryCount(ctx, q.db, userID)
	return int(n), mapErr("count recovery codes", err, nil)
}

// Challenge is a login whose password was right and whose second factor is awaited.
type Challenge struct {
	UserID            uuid.UUID
	PasswordChangedAt time.Time
	Failures          int
	ExpiresAt         time.Time
}

func challenge(r authdb.MfaChallenge) Challenge {
	return Challenge{UserID: r.UserID, PasswordChangedAt: r.PasswordChangedAt.UTC(), Failures: int(r.Failures), ExpiresAt: r.ExpiresAt.UTC()}
}

// InsertChallenge keeps a challenge by the hash of its token.
func (q Queries) InsertChallenge(ctx context.Context, hash []byte, c Challenge) error {
	return mapErr("keep challenge", q.q.ChallengeInsert(ctx, q.db, authdb.ChallengeInsertParams{
		TokenHash: hash, UserID: c.UserID, PasswordChangedAt: c.PasswordChangedAt, ExpiresAt: c.ExpiresAt,
	}), nil)
}

// Challenge gives a challenge, or ErrMFAToken.
func (q Queries) Challenge(ctx context.Context, hash []byte) (Challenge, error) {
	row, err := q.q.ChallengeGet(ctx, q.db, hash)
	return challenge(row), mapErr("read challenge", err, auth.ErrMFAToken)
}

// LockChallenge gives a challenge and holds it until the transaction ends.
func (q Queries) LockChallenge(ctx context.Context, hash []byte) (Challenge, error) {
	row, err := q.q.ChallengeGetForUpdate(ctx, q.db, hash)
	return challenge(row), mapErr("lock challenge", err, auth.ErrMFAToken)
}

// FailChallenge counts a wrong code.
func (q Queries) FailChallenge(ctx context.Context, hash []byte) error {
	return mapErr("count wrong code", q.q.ChallengeFail(ctx, q.db, hash), nil)
}

// DeleteChallenge removes a challenge.
func (q Queries) DeleteChallenge(ctx context.Context, hash []byte) error {
	return mapErr("remove challenge", q.q.ChallengeDelete(ctx, q.db, hash), nil)
}

// MFAOwed tells whether a person has no second factor although one is asked of who holds the roles in the tenant.
func (q Queries) MFAOwed(ctx context.Context, userID, tenantID uuid.UUID, roles []string) (bool, error) {
	owed, err := q.q.MFAOwed(ctx, q.db, authdb.MFAOwedParams{UserID: userID, TenantID: tenantID, Roles: append([]string{}, roles...)})
	return owed, mapErr("see who must have a second factor", err, nil)
}

// MFAAsked tells whether a second factor is asked of who holds the roles in the tenant.
func (q Queries) MFAAsked(ctx context.Context, tenantID uuid.UUID, roles []string) (bool, error) {
	asked, err := q.q.MFAAsked(ctx, q.db, authdb.MFAAskedParams{TenantID: tenantID, Roles: append([]string{}, roles...)})
	return asked, mapErr("see who must have a second factor", err, nil)
}

// MFAPolicy tells what is required in a tenant itself; nil is everywhere.
func (q Queries) MFAPolicy(ctx context.Context, tenantID *uuid.UUID) (auth.MFAPolicy, error) {
	p := auth.MFAPolicy{TenantID: tenantID, Roles: []string{}}
	rows, err := q.q.MFARequirements(ctx, q.db, tenantID)
	for _, role := range rows {
		if role == nil {
			p.Required = true
		} else {
			p.Roles = append(p.Roles, *role)
		}
	}
	return p, mapErr("read who must have a second factor", err, nil)
}

// SetMFAPolicy replaces what is required..
func (q Queries) SetMFAPolicy(ctx context.Context, p auth.MFAPolicy, newID func() (uuid.UUID, error), now time.Time) error {
	err := q.q.MFAPolicyLock(ctx, q.db)
	if err == nil {
		err = q.q.MFARequirementClear(ctx, q.db, p.TenantID)
	}
	roles := make([]*string, 0, len(p.Roles)+1)
	if p.Required {
		roles = append(roles, nil)
	}
	for i := range p.Roles {
		roles = append(roles, &p.Roles[i])
	}
	for _, role := range roles {
		id, idErr := newID()
		if idErr != nil {
			return idErr
		}
		if err == nil {
			err = q.q.MFARequirementInsert(ctx, q.db, authdb.MFARequirementInsertParams{ID: id, TenantID: p.TenantID, Role: role, Now: now})
		}
	}
	return mapErr("set who must have a second factor", err, nil)
}
