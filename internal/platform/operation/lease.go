package operation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
)

// claimSQL takes the lease of an operation that is due, that nobody holds, and whose saga this process knows.
const claimSQL = `UPDATE operations SET status = 'running', lease_owner = $2, lease_epoch = lease_epoch + 1,
		lease_until = clock_timestamp() + $3::interval, started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
	WHERE id = $1 AND ended_at IS NULL AND kind = ANY($4) AND (lease_until IS NULL OR lease_until < clock_timestamp())
		AND next_attempt_at <= clock_timestamp() RETURNING ` + columns

// claim answers ErrNotFound where there is nothing to take. It does not break off when the engine stops, because then nobody would know
// whether there is a lease to give back.
func (e *Engine) claim(id uuid.UUID) (row, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.base), releaseTimeout)
	defer cancel()
	return one(ctx, e.cfg.Pool, claimSQL, id, e.cfg.Owner, e.cfg.Lease, e.kinds())
}

// early tells how long an operation that could not be claimed has to wait still, where that is all that was in the way. Jobs and leases
// go by different clocks, so a job may come a little early.
func (e *Engine) early(ctx context.Context, id uuid.UUID) (time.Duration, bool) {
	var wait time.Duration
	err := e.cfg.Pool.QueryRow(ctx, `SELECT next_attempt_at - clock_timestamp() FROM operations
		WHERE id = $1 AND ended_at IS NULL AND kind = ANY($2) AND lease_until IS NULL`, id, e.kinds()).Scan(&wait)
	return max(wait, 0) + 10*time.Millisecond, err == nil && wait < time.Second
}

// takeOver gives free what a predecessor of the same owner held.
func (e *Engine) takeOver(ctx context.Context) error {
	_, err := e.cfg.Pool.Exec(ctx, `UPDATE operations SET lease_until = NULL, lease_epoch = lease_epoch + 1, delivered_at = '-infinity'
		WHERE ended_at IS NULL AND lease_owner = $1 AND lease_until IS NOT NULL`, e.cfg.Owner)
	if err != nil {
		return fmt.Errorf("take over leases: %w", pg.Map(err))
	}
	return nil
}

// leaseMargin is the part of a lease that a runner does not use, so that it has ended when another may begin.
const leaseMargin = 10

// hold notes that this process works on the operation, and interrupts the run when its lease runs out. since is a time before the
// lease was taken.
func (e *Engine) hold(r *Run, since time.Time) {
	r.expiry = time.AfterFunc(time.Until(since.Add(e.cfg.Lease-e.cfg.Lease/leaseMargin)), func() { r.lose(errLost) })
	e.mu.Lock()
	defer e.mu.Unlock()
	if older := e.runs[r.id]; older != nil { // it lost its lease, to us, and does not know
		older.lose(errLost)
	}
	e.runs[r.id] = r
}

func (e *Engine) letGo(r *Run) {
	r.expiry.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.runs[r.id] == r {
		delete(e.runs, r.id)
	}
}

// keepLeases renews the leases of everything at work here, until ctx ends.
func (e *Engine) keepLeases(ctx context.Context) {
	timer := time.NewTimer(e.cfg.Renew)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := e.cfg.Renew
		again, err := e.renew(ctx)
		if err != nil && ctx.Err() == nil {
			e.cfg.Log.WarnContext(ctx, "leases of operations could not be renewed", "error", err)
		}
		if err != nil || again {
			next = e.cfg.Renew / 10
		}
		timer.Reset(next)
	}
}

// renewSQL renews what is ours still. A row that somebody has locked at the moment, for however long, does not hold up the others.
const renewSQL = `WITH mine AS (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS m(id, epoch)),
	free AS (SELECT o.id FROM operations o JOIN mine m ON o.id = m.id AND o.lease_epoch = m.epoch WHERE o.ended_at IS NULL FOR UPDATE OF o SKIP LOCKED),
	renewed AS (UPDATE operations SET lease_until = clock_timestamp() + $3::interval WHERE id IN (SELECT id FROM free) RETURNING id)
	SELECT o.id, o.cancel_requested, r.id IS NOT NULL FROM operations o JOIN mine m ON o.id = m.id AND o.lease_epoch = m.epoch
		LEFT JOIN renewed r ON r.id = o.id WHERE o.ended_at IS NULL`

// renew renews the leases once. again asks for another round soon, for rows that were locked.
func (e *Engine) renew(ctx context.Context) (again bool, err error) {
	e.mu.Lock()
	runs := make(map[uuid.UUID]*Run, len(e.runs))
	ids, epochs := make([]uuid.UUID, 0, len(e.runs)), make([]int64, 0, len(e.runs))
	for id, r := range e.runs {
		runs[id] = r
		ids, epochs = append(ids, id), append(epochs, r.epoch)
	}
	e.mu.Unlock()
	if len(runs) == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Renew)
	defer cancel()
	since := time.Now()
	rows, err := e.cfg.Pool.Query(ctx, renewSQL, ids, epochs, e.cfg.Lease)
	if err != nil {
		return false, pg.Map(err)
	}
	var id uuid.UUID
	var canceled, renewed bool
	_, err = pgx.ForEachRow(rows, []any{&id, &canceled, &renewed}, func() error {
		r := runs[id]
		delete(runs, id)
		if canceled {
			r.cancel(errUser)
		}
		if renewed {
			r.expiry.Reset(time.Until(since.Add(e.cfg.Lease - e.cfg.Lease/leaseMargin)))
		} else {
			again = true
		}
		return nil
	})
	if err != nil {
		return false, pg.Map(err)
	}
	for _, r := range runs { // taken over, superseded, or ended a moment ago
		r.lose(errLost)
	}
	return again, nil
}

// release gives the lease back, to be taken again after d. Where a user has canceled meanwhile that is at once; what is answered is how
// long it is in truth.
func (r *Run) release(d time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.held), releaseTimeout)
	defer cancel()
	o := r.snapshot()
	var wait time.Duration
	err := r.engine.cfg.Pool.QueryRow(ctx, `UPDATE operations SET lease_until = NULL, lease_owner = '', delivered_at = '-infinity',
		steps = $3, progress = greatest(progress, $4), updated_at = clock_timestamp(),
		next_attempt_at = CASE WHEN cancel_requested AND NOT undoing THEN clock_timestamp() ELSE clock_timestamp() + $5::interval END
		WHERE id = $1 AND lease_epoch = $2 AND ended_at IS NULL RETURNING next_attempt_at - clock_timestamp()`,
		o.ID, r.epoch, o.Steps, o.Progress, d).Scan(&wait)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, errLost
	}
	if err != nil { // the lease runs out by itself
		return 0, fmt.Errorf("give lease back: %w", pg.Map(err))
	}
	return max(wait, 0), nil
}

// releaseTimeout bounds what a run writes after its context has ended.
const releaseTimeout = 5 * time.Second
