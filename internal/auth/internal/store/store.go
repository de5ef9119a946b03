// Package store keeps users, tenants, roles and sessions in PostgreSQL.
//
// It maps rows to the contract's types, and missing rows and constraint names to the contract's errors. Reach is a parameter of every query that serves
// a caller, so no tenant can see another's rows. Only the auth module's service uses it.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
)

// Reach is the tenant that a caller may see; nil is every tenant.
type Reach = *uuid.UUID

// Store runs queries outside of any transaction, and starts transactions. It exists before the database does: until Attach, and after
// Detach, every query fails with pg.ErrUnavailable.
type Store struct {
	Queries
	pool *latePool
}

// Queries are the queries, on a connection of the pool or on a transaction.
type Queries struct {
	q  *authdb.Queries
	db authdb.DBTX
}

// New makes a Store without a database.
func New() *Store {
	pool := &latePool{}
	return &Store{Queries: Queries{q: authdb.New(), db: pool}, pool: pool}
}

// Attach gives the store a pool that acts in the auth schema. The caller keeps it, and closes it after Detach.
func (s *Store) Attach(pool *pgxpool.Pool) { s.pool.current.Store(pool) }

// Detach takes the pool away again.
func (s *Store) Detach() { s.pool.current.Store(nil) }

// InTx runs fn in one transaction, and again when PostgreSQL asks for it. Within fn only tx may be used.
func (s *Store) InTx(ctx context.Context, fn func(tx Queries) error) error {
	return pg.InTx(ctx, s.pool, func(tx pgx.Tx) error { return fn(Queries{q: s.q, db: tx}) })
}

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	pool := s.pool.current.Load()
	if pool == nil {
		return errDetached
	}
	if err := pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping the auth database: %w", pg.Map(err))
	}
	return nil
}

// After is a position in a list: the last row of the page before.
type After struct {
	CreatedAt time.Time
	ID        uuid.UUID
}

// split gives the two halves of a position as the queries take them.
func (a *After) split() (*time.Time, uuid.UUID) {
	if a == nil {
		return nil, uuid.Nil
	}
	return &a.CreatedAt, a.ID
}

// mapErr names an error after what was being done. A missing row becomes missing, where that is given.
func mapErr(doing string, err error, missing *errs.Error) error {
	if err == nil {
		return nil
	}
	if missing != nil && pg.NotFound(err) {
		return missing
	}
	switch constraint, _ := pg.Violation(err); constraint {
	case "users_username_key":
		return auth.ErrUsernameTaken
	case "users_email_key":
		return auth.ErrEmailTaken
	case "tenants_name_key":
		return auth.ErrTenantExists
	case "users_tenant_id_fkey", "role_bindings_tenant_id_fkey", "tenants_parent_id_fkey", "roles_tenant_id_fkey":
		return auth.ErrTenantNotFound
	case "roles_name_key":
		return auth.ErrRoleExists
	case "role_bindings_key":
		return auth.ErrBindingExists
	case "role_bindings_role_id_fkey":
		return auth.ErrRoleInUse
	}
	return fmt.Errorf("%s: %w", doing, pg.Map(err))
}

// convert maps a slice of rows.
func convert[R, T any](rows []R, one func(R) T) []T {
	out := make([]T, len(rows))
	for i, r := range rows {
		out[i] = one(r)
	}
	return out
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
