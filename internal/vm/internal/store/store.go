// Package store keeps the vm module's rows: it maps between the module's PostgreSQL schema and its types, names constraint
// violations, and is the only package of the module that sees a transaction. Every change that others must learn of writes its
// event to the outbox in the same transaction.
package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Store is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	ops  *operation.Engine
	q    *vmdb.Queries
}

// New makes a store over the module's schema. Operations are created by ops in the store's own transactions.
func New(pool *pgxpool.Pool, ops *operation.Engine) *Store {
	return &Store{pool: pool, ops: ops, q: vmdb.New()}
}

// InstallationID answers the id of this installation, which is made at the first call ever.
func (s *Store) InstallationID(ctx context.Context) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make installation id: %w", err)
	}
	if err := s.q.InstallationInsert(ctx, s.pool, id); err != nil {
		return uuid.Nil, fmt.Errorf("keep installation id: %w", pg.Map(err))
	}
	id, err = s.q.InstallationGet(ctx, s.pool)
	if err != nil {
		return uuid.Nil, fmt.Errorf("read installation id: %w", pg.Map(err))
	}
	return id, nil
}

// inTx runs fn in a transaction and maps what the driver says.
func (s *Store) inTx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return pg.Map(pg.InTx(ctx, s.pool, fn))
}

// ignoreGone is for a change of a row that may have gone.
func ignoreGone(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// mapNoRows turns the driver's "no rows" into the caller's own error.
func mapNoRows(err, notFound error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound
	}
	return pg.Map(err)
}
