// Package idempotency keeps requests with an Idempotency-Key, and their answers, in the schema of the module that serves them. It is
// the store behind platform/httpx/idempotent.
//
// A request is locked while it is carried out. Whoever carries it out renews the lock; the lock of a process that died runs out
// after LockFor. Keys are forgotten KeepFor after their first use. All times are the database's.
//
// The module's migration creates the table with the text of Schema, copied as it is.
package idempotency

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/pg"
)

// Schema is the DDL of the table, to be copied into a migration of each module that serves POST requests.
//
//go:embed schema.sql
var Schema string

const (
	// LockFor is how long a lock lives without being renewed.
	LockFor = 60 * time.Second
	// KeepFor is how long a key is remembered.
	KeepFor = 24 * time.Hour

	sweepBatch = 1000
)

// Store implements idempotent.Store.
type Store struct {
	pool *pgxpool.Pool
}

var _ idempotent.Store = (*Store)(nil)

// New makes a store in the pool's schema.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// A row is taken over where its time is over, or where the request was left unfinished and comes again as it was.
const beginSQL = `
INSERT INTO idempotency_keys AS k (principal_id, route, key, body_sha256, lock, locked_until)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)
ON CONFLICT (principal_id, route, key) DO UPDATE
SET body_sha256 = excluded.body_sha256, lock = excluded.lock, locked_until = excluded.locked_until, status = NULL, header = NULL, body = NULL,
    created_at = CASE WHEN k.created_at < clock_timestamp() - $7::interval THEN clock_timestamp() ELSE k.created_at END
WHERE (k.created_at < clock_timestamp() - $7::interval OR (k.status IS NULL AND k.body_sha256 = excluded.body_sha256))
  AND (k.status IS NOT NULL OR k.locked_until < clock_timestamp())`

const readSQL = `SELECT body_sha256 = $4, status, header, body FROM idempotency_keys WHERE principal_id = $1 AND route = $2 AND key = $3`

// Begin locks a fresh request, or gives the answer of one that was carried out. It answers idempotent.ErrMismatch where the key came
// with another body, and idempotent.ErrInProgress while the request is being carried out.
func (s *Store) Begin(ctx context.Context, id idempotent.ID, bodyHash []byte) (idempotent.Result, error) {
	lock, err := uuid.NewRandom()
	if err != nil {
		return idempotent.Result{}, fmt.Errorf("make lock: %w", err)
	}
	// Between the two statements the row may have gone; then the request is fresh after all.
	for range 3 {
		tag, err := s.pool.Exec(ctx, beginSQL, id.Principal, id.Route, id.Key, bodyHash, lock, LockFor, KeepFor)
		if err != nil {
			return idempotent.Result{}, fmt.Errorf("lock idempotency key: %w", pg.Map(err))
		}
		if tag.RowsAffected() == 1 {
			return idempotent.Result{Lock: lock}, nil
		}
		var same bool
		var status *int
		var header http.Header
		var body []byte
		err = s.pool.QueryRow(ctx, readSQL, id.Principal, id.Route, id.Key, bodyHash).Scan(&same, &status, &header, &body)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return idempotent.Result{}, fmt.Errorf("read idempotency key: %w", pg.Map(err))
		case !same:
			return idempotent.Result{}, idempotent.ErrMismatch
		case status == nil:
			return idempotent.Result{}, idempotent.ErrInProgress
		}
		return idempotent.Result{Answer: &idempotent.Answer{Status: *status, Header: header, Body: body}}, nil
	}
	return idempotent.Result{}, idempotent.ErrInProgress
}

// errLockLost says that the lock ran out and that another request may have taken it.
var errLockLost = errors.New("the lock has run out")

const held = ` WHERE principal_id = $1 AND route = $2 AND key = $3 AND lock = $4 AND status IS NULL`

func (s *Store) exec(ctx context.Context, what, sql string, args ...any) error {
	tag, err := s.pool.Exec(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, pg.Map(err))
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("%s: %w", what, errLockLost)
	}
	return nil
}

// Renew keeps the lock for another LockFor.
func (s *Store) Renew(ctx context.Context, id idempotent.ID, lock uuid.UUID) error {
	return s.exec(ctx, "renew lock of idempotency key", `UPDATE idempotency_keys SET locked_until = clock_timestamp() + $5::interval`+held,
		id.Principal, id.Route, id.Key, lock, LockFor)
}

// Finish remembers the answer.
func (s *Store) Finish(ctx context.Context, id idempotent.ID, lock uuid.UUID, a idempotent.Answer) error {
	if a.Header == nil {
		a.Header = http.Header{}
	}
	return s.exec(ctx, "remember answer", `UPDATE idempotency_keys SET status = $5, header = $6, body = $7`+held,
		id.Principal, id.Route, id.Key, lock, a.Status, a.Header, a.Body)
}

// Abandon forgets the request.
func (s *Store) Abandon(ctx context.Context, id idempotent.ID, lock uuid.UUID) error {
	return s.exec(ctx, "forget idempotency key", `DELETE FROM idempotency_keys`+held, id.Principal, id.Route, id.Key, lock)
}

// Sweep removes the keys whose time is over. A module calls it now and then.
func (s *Store) Sweep(ctx context.Context) error {
	for {
		tag, err := s.pool.Exec(ctx, `DELETE FROM idempotency_keys WHERE (principal_id, route, key) IN (
			SELECT principal_id, route, key FROM idempotency_keys
			WHERE created_at < clock_timestamp() - $1::interval AND (status IS NOT NULL OR locked_until < clock_timestamp()) LIMIT $2)`,
			KeepFor, sweepBatch)
		if err != nil {
			return fmt.Errorf("remove old idempotency keys: %w", pg.Map(err))
		}
		if tag.RowsAffected() < sweepBatch {
			return nil
		}
	}
}
