package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
)

// Account is a user with what only the service may know.
type Account struct {
	auth.User
	PasswordHash   string
	TenantDisabled bool // or its organisation; filled in by AccountByUsername only
}

// NewUser is what an account is made of.
type NewUser struct {
	ID           uuid.UUID
	Kind         string // empty: auth.KindHuman
	Username     string
	Description  string
	Email        string // empty: none
	PasswordHash string // empty: none, of a service account
	Role         string
	TenantID     uuid.UUID
	OneTime      *time.Time // the password must be replaced, and ends then; nil: it is the user's own
	Now          time.Time
}

// InsertUser makes an account. It fails with ErrUsernameTaken, ErrEmailTaken or ErrTenantNotFound.
func (q Queries) InsertUser(ctx context.Context, u NewUser) (auth.User, error) {
	if u.Kind == "" {
		u.Kind = auth.KindHuman
	}
	row, err := q.q.UserInsert(ctx, q.db, authdb.UserInsertParams{
		ID: u.ID, Kind: u.Kind, Username: u.Username, Description: u.Description, Email: optional(u.Email), PasswordHash: u.PasswordHash, Role: u.Role,
		TenantID: u.TenantID, Now: u.Now, PasswordChangeRequired: u.OneTime != nil, PasswordExpiresAt: u.OneTime,
	})
	return user(row), mapErr("insert user", err, nil)
}

// User gives an account within reach, or ErrUserNotFound.
func (q Queries) User(ctx context.Context, id uuid.UUID, reach Reach) (auth.User, error) {
	row, err := q.q.UserGet(ctx, q.db, authdb.UserGetParams{ID: id, Reach: reach})
	return user(row), mapErr("read user", err, auth.ErrUserNotFound)
}

// HolderOf tells whose permissions an account has.
func HolderOf(u auth.User) Holder {
	return Holder{Kind: auth.PrincipalUser, ID: u.ID, HomeID: u.TenantID, HomeRole: u.Role}
}

// LockAccount gives an account within reach and holds it until the transaction ends.
func (q Queries) LockAccount(ctx context.Context, id uuid.UUID, reach Reach) (Account, error) {
	row, err := q.q.UserGetForUpdate(ctx, q.db, authdb.UserGetForUpdateParams{ID: id, Reach: reach})
	return Account{User: user(row), PasswordHash: row.PasswordHash}, mapErr("lock user", err, auth.ErrUserNotFound)
}

// AccountByUsername gives the account of a user name, whatever its case, or ErrUserNotFound.
func (q Queries) AccountByUsername(ctx context.Context, username string) (Account, error) {
	row, err := q.q.UserGetByUsername(ctx, q.db, username)
	return Account{User: user(row.User), PasswordHash: row.User.PasswordHash, TenantDisabled: row.TenantDisabled},
		mapErr("find user", err, auth.ErrUserNotFound)
}

// Users lists accounts within reach, newest first; of one name where that is given.
func (q Queries) Users(ctx context.Context, reach Reach, username string, after *After, limit int) ([]auth.User, error) {
	t, id := after.split()
	rows, err := q.q.UserList(ctx, q.db, authdb.UserListParams{Reach: reach, Username: optional(username), AfterTime: t, AfterID: id, MaxRows: int32(limit)})
	return convert(rows, user), mapErr("list users", err, nil)
}

// UpdateUser writes the address, the role, the description and the disabling of an account that the transaction has locked.
func (q Queries) UpdateUser(ctx context.Context, u auth.User, now time.Time) (auth.User, error) {
	row, err := q.q.UserUpdate(ctx, q.db, authdb.UserUpdateParams{
		ID: u.ID, Email: optional(u.Email), Role: u.Role, Description: u.Description, Disabled: u.Disabled, Now: now,
	})
	return user(row), mapErr("update user", err, auth.ErrUserNotFound)
}

// SetPassword replaces the password of an account that the transaction has locked. With oneTime it must be replaced, and ends then.
func (q Queries) SetPassword(ctx context.Context, id uuid.UUID, hash string, oneTime *time.Time, now time.Time) error {
	_, err := q.q.UserSetPassword(ctx, q.db, authdb.UserSetPasswordParams{
		ID: id, PasswordHash: hash, ChangeRequired: oneTime != nil, ExpiresAt: oneTime, Now: now,
	})
	return mapErr("set password", err, auth.ErrUserNotFound)
}

// Rehash replaces the hash of a password that stays the same.
func (q Queries) Rehash(ctx context.Context, id uuid.UUID, oldHash, newHash string) error {
	return mapErr("rehash password", q.q.UserRehash(ctx, q.db, authdb.UserRehashParams{ID: id, OldHash: oldHash, NewHash: newHash}), nil)
}

// DeleteUser removes an account with its sessions and bindings.
func (q Queries) DeleteUser(ctx context.Context, id uuid.UUID) error {
	if err := q.DeleteBindingsOf(ctx, auth.PrincipalUser, id); err != nil {
		return err
	}
	return mapErr("delete user", q.q.UserDelete(ctx, q.db, id), nil)
}

// CountUsers counts all accounts.
func (q Queries) CountUsers(ctx context.Context) (int64, error) {
	n, err := q.q.UserCount(ctx, q.db)
	return n, mapErr("count users", err, nil)
}

// LockAdmins gives the enabled administrators and holds them until the transaction ends. A transaction that may take one away calls it
// before it locks anything else, so that two of them cannot take away the last two.
func (q Queries) LockAdmins(ctx context.Context) ([]uuid.UUID, error) {
	ids, err := q.q.UserLockAdmins(ctx, q.db)
	return ids, mapErr("lock administrators", err, nil)
}

// LockBootstrap makes the rest of the transaction the only one of its kind in the database.
func (q Queries) LockBootstrap(ctx context.Context) error {
	return mapErr("lock the first start", q.q.BootstrapLock(ctx, q.db), nil)
}

func user(r authdb.User) auth.User {
	u := auth.User{
		ID: r.ID, Kind: r.Kind, Username: r.Username, Description: r.Description, Role: r.Role, TenantID: r.TenantID, MFAEnabled: r.MfaEnabled, Disabled: r.DisabledAt != nil,
		Version: r.Version, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), LastLoginAt: utc(r.LastLoginAt),
		PasswordChangedAt: r.PasswordChangedAt.UTC(), PasswordChangeRequired: r.PasswordChangeRequired, PasswordExpiresAt: utc(r.PasswordExpiresAt),
	}
	if r.Email != nil {
		u.Email = *r.Email
	}
	return u
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
