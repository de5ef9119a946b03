package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
)

// sweepBatch bounds how many operations one sweep delivers or forgets.
const sweepBatch = 500

// sweepLoop sweeps at once and then at every interval, until ctx ends.
func (e *Engine) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(e.cfg.Sweep)
	defer tick.Stop()
	for {
		if err := e.sweep(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Log.WarnContext(ctx, "sweep of operations failed; the next one follows", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweep delivers every live operation that is due and that nobody holds, unless it was delivered a moment ago, and forgets old ended
// ones.
func (e *Engine) sweep(ctx context.Context) error {
	err := pg.InTx(ctx, e.cfg.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE operations SET delivered_at = now() WHERE id IN (
				SELECT id FROM operations WHERE ended_at IS NULL AND next_attempt_at <= now() AND (lease_until IS NULL OR lease_until < now())
					AND delivered_at < now() - $1::interval
				ORDER BY next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id`, e.cfg.Sweep, sweepBatch)
		if err != nil {
			return err
		}
		due, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		for _, id := range due {
			if _, err := e.client.InsertTx(ctx, tx, advance{OperationID: id}, nil); err != nil {
				return fmt.Errorf("deliver operation %s: %w", id, err)
			}
		}
		return nil
	})
	if err != nil {
		return pg.Map(err)
	}
	_, err = e.cfg.Pool.Exec(ctx, `DELETE FROM operations WHERE id IN (SELECT id FROM operations WHERE ended_at < now() - $1::interval LIMIT $2)`, e.cfg.Retention, sweepBatch)
	if err != nil {
		return pg.Map(err)
	}
	return e.countLive(ctx)
}

// countLive sets the gauge of live operations by kind.
func (e *Engine) countLive(ctx context.Context) error {
	rows, err := e.cfg.Pool.Query(ctx, `SELECT kind, count(*) FROM operations WHERE ended_at IS NULL GROUP BY kind`)
	if err != nil {
		return pg.Map(err)
	}
	live := map[string]int64{}
	var kind string
	var count int64
	if _, err := pgx.ForEachRow(rows, []any{&kind, &count}, func() error { live[kind] = count; return nil }); err != nil {
		return pg.Map(err)
	}
	for kind := range e.sagas {
		e.metrics.live.WithLabelValues(kind).Set(float64(live[kind]))
	}
	return nil
}
