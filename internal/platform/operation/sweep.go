package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/novacron/novacron/internal/platform/pg"
)

// sweepBatch bounds how many operations one sweep delivers or forgets.
const sweepBatch = 500

// forgetEvery is how often old operations are removed.
const forgetEvery = time.Minute

// sweepLoop sweeps at once and then at every interval, until ctx ends.
func (e *Engine) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(e.cfg.Sweep)
	defer tick.Stop()
	var forgot time.Time
	for {
		err := e.deliver(ctx)
		if err == nil {
			err = e.countLive(ctx)
		}
		if err == nil && time.Since(forgot) >= forgetEvery {
			forgot = time.Now()
			err = e.forget(ctx)
		}
		if err != nil && ctx.Err() == nil {
			e.cfg.Log.WarnContext(ctx, "sweep of operations failed; the next one follows", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// dueSQL marks live operations that are due and that nobody holds, unless they were delivered a moment ago or have a job that waits to
// be fetched. A job that was fetched does not count: whoever fetched it may be dead. The second condition reads River's table, whose
// index on args answers it; without it a backlog would pile up jobs.
const dueSQL = `UPDATE operations SET delivered_at = clock_timestamp() WHERE id IN (
		SELECT id FROM operations o WHERE ended_at IS NULL AND kind = ANY($1) AND next_attempt_at <= clock_timestamp()
			AND (lease_until IS NULL OR lease_until < clock_timestamp()) AND delivered_at < clock_timestamp() - $2::interval
			AND NOT EXISTS (SELECT FROM river_job j WHERE j.state = 'available' AND j.args @> jsonb_build_object('operation_id', o.id))
		ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING id`

// deliver has every operation delivered that nothing else would.
func (e *Engine) deliver(ctx context.Context) error {
	err := pg.InTx(ctx, e.cfg.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, dueSQL, e.kinds(), e.cfg.Sweep, sweepBatch)
		if err != nil {
			return err
		}
		due, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil || len(due) == 0 {
			return err
		}
		jobs := make([]river.InsertManyParams, len(due))
		for i, id := range due {
			jobs[i].Args = advance{OperationID: id}
		}
		_, err = e.client.InsertManyFastTx(ctx, tx, jobs)
		return err
	})
	if err != nil {
		return fmt.Errorf("deliver operations: %w", pg.Map(err))
	}
	return nil
}

// forget removes operations that ended long ago.
func (e *Engine) forget(ctx context.Context) error {
	for {
		tag, err := e.cfg.Pool.Exec(ctx, `DELETE FROM operations WHERE id IN (
			SELECT id FROM operations WHERE ended_at < clock_timestamp() - $1::interval ORDER BY ended_at LIMIT $2)`, e.cfg.Retention, sweepBatch)
		if err != nil {
			return fmt.Errorf("remove old operations: %w", pg.Map(err))
		}
		if tag.RowsAffected() < sweepBatch {
			return nil
		}
	}
}

// countLive sets the gauge of live operations by kind.
func (e *Engine) countLive(ctx context.Context) error {
	rows, err := e.cfg.Pool.Query(ctx, `SELECT kind, count(*) FROM operations WHERE ended_at IS NULL GROUP BY kind`)
	if err != nil {
		return fmt.Errorf("count live operations: %w", pg.Map(err))
	}
	live := map[string]int64{}
	var kind string
	var count int64
	if _, err := pgx.ForEachRow(rows, []any{&kind, &count}, func() error { live[kind] = count; return nil }); err != nil {
		return fmt.Errorf("count live operations: %w", pg.Map(err))
	}
	for kind := range e.sagas {
		e.metrics.live.WithLabelValues(kind).Set(float64(live[kind]))
	}
	return nil
}
