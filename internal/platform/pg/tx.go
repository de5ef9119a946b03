package pg

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// Beginner starts transactions: a *pgxpool.Pool or a *pgx.Conn. A pgx.Tx is not one, so transactions do not nest by accident.
type Beginner interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

const (
	// txAttempts is how often a transaction is tried before ErrContention.
	txAttempts = 6
	// txPause is the longest pause before the second attempt; it doubles with each.
	txPause = 10 * time.Millisecond
	// rollbackTimeout bounds the clean-up after the caller's context has ended.
	rollbackTimeout = 5 * time.Second
)

// InTx runs fn in a transaction and commits it; an error or a panic of fn rolls it back. When PostgreSQL gives the transaction up
// because of another one (serialization failure, deadlock), all of it runs again, so fn must not do anything that a rollback does not
// undo. Errors are translated by Map.
func InTx(ctx context.Context, db Beginner, fn func(tx pgx.Tx) error) error {
	return InTxWith(ctx, db, pgx.TxOptions{}, fn)
}

// InTxWith is InTx with options, for example an isolation level.
func InTxWith(ctx context.Context, db Beginner, opts pgx.TxOptions, fn func(tx pgx.Tx) error) error {
	pause := txPause
	for attempt := 1; ; attempt++ {
		err := once(ctx, db, opts, fn)
		if err == nil || !hasCode(err, codeSerialization, codeDeadlock) || attempt == txAttempts {
			return Map(err)
		}
		t := time.NewTimer(rand.N(pause) + time.Millisecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return Map(errors.Join(ctx.Err(), err))
		case <-t.C:
		}
		pause *= 2
	}
}

func once(ctx context.Context, db Beginner, opts pgx.TxOptions, fn func(tx pgx.Tx) error) (err error) {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	committed := false
	defer func() {
		if committed {
			return
		}
		// With the caller's ended context the connection would be thrown away.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		// Why the transaction failed matters more than a rollback that fails: the server rolls back by itself then.
		_ = tx.Rollback(clean)
	}()
	if err := fn(tx); err != nil {
		return err
	}
	committed = true // even when it fails: pgx has ended the transaction then
	return tx.Commit(ctx)
}
