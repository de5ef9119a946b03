package store

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/platform/pg"
)

// errDetached is what queries answer while there is no pool.
var errDetached = pg.ErrUnavailable.WithMessage("the auth module has not started or has stopped")

// latePool is a pool that comes and goes with the module, while routes and contract are wired before it starts.
type latePool struct {
	current atomic.Pointer[pgxpool.Pool]
}

func (l *latePool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if pool := l.current.Load(); pool != nil {
		return pool.Exec(ctx, sql, args...)
	}
	return pgconn.CommandTag{}, errDetached
}

func (l *latePool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if pool := l.current.Load(); pool != nil {
		return pool.Query(ctx, sql, args...)
	}
	return nil, errDetached
}

func (l *latePool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if pool := l.current.Load(); pool != nil {
		return pool.QueryRow(ctx, sql, args...)
	}
	return detachedRow{}
}

func (l *latePool) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	if pool := l.current.Load(); pool != nil {
		return pool.BeginTx(ctx, opts)
	}
	return nil, errDetached
}

type detachedRow struct{}

func (detachedRow) Scan(...any) error { return errDetached }
