package operation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
)

// backward undoes every step that has begun, the last one first, however often that takes.
func (r *Run) backward() error {
	for i := len(r.saga.Steps) - 1; i >= 0; i-- {
		step := r.saga.Steps[i]
		switch r.row.Steps[i].Status {
		case StepUndone, StepSkipped:
			continue
		case StepPending: // written with what comes next
			r.record(i, func(s *StepRecord, _ *time.Time) { s.Status = StepSkipped })
			continue
		}
		if step.Undo == nil {
			r.record(i, func(s *StepRecord, now *time.Time) {
				if s.Status == StepRunning { // interrupted
					s.Status, s.EndedAt = StepFailed, now
				}
			})
			continue
		}
		if err := r.undo(i, step); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) undo(i int, step Step) error {
	for {
		if r.held.Err() != nil {
			return context.Cause(r.held)
		}
		r.update(func(*row) { r.step = i })
		err := r.guard(r.held, step, "undo", step.Undo)
		if err == nil {
			break
		}
		if r.held.Err() != nil {
			return context.Cause(r.held)
		}
		e := storable(errs.From(err).AtStep(step.Name))
		r.record(i, func(s *StepRecord, _ *time.Time) { s.Error, s.UndoAttempts = e, s.UndoAttempts+1 })
		r.engine.metrics.stepFailed(r.row.Kind, step.Name)
		failures := r.row.Steps[i].UndoAttempts
		wait := pause(failures, maxPauseUndo)
		r.log.WarnContext(r.held, "step could not be undone; it is tried again", "step", step.Name, "attempt", failures, "wait", wait, "error", err)
		if err := r.wait(r.held, wait); err != nil {
			return err
		}
	}
	r.record(i, func(s *StepRecord, now *time.Time) { s.Status, s.EndedAt = StepUndone, now })
	return r.save()
}

// end ends the operation, with what its saga has to write, in one transaction. It tries until that succeeds. A success that a user
// has canceled a moment before is a failure.
func (r *Run) end(status Status) error {
	cancelable := status == StatusSucceeded && !r.saga.beyondReturn(r.row.Steps)
	pausing := r.held
	if cancelable {
		pausing = r.steps
	}
	for n := 1; ; n++ {
		err := r.tryEnd(status)
		switch {
		case err == nil:
			return nil
		case r.held.Err() != nil:
			return context.Cause(r.held)
		case errors.Is(err, errLost):
			if cancelable {
				return r.canceledOrLost()
			}
			return err
		}
		r.log.WarnContext(r.held, "operation could not be ended; it is tried again", "attempt", n, "error", err)
		if err := r.wait(pausing, pause(n, maxPauseForward)); err != nil {
			return err
		}
		if cancelable && r.steps.Err() != nil {
			return failure{ErrCanceled}
		}
	}
}

const endSQL = `UPDATE operations SET status = $3, steps = $4, progress = $5, error = $6, ended_at = $7, updated_at = clock_timestamp(),
	lease_until = NULL, lease_owner = '' WHERE ` + fence

func (r *Run) tryEnd(status Status) error {
	o := r.snapshot()
	now := time.Now().UTC().Truncate(time.Microsecond) // what the database can hold
	op := o.Operation
	op.Status, op.EndedAt, op.UpdatedAt = status, &now, now
	sql := endSQL
	if status == StatusSucceeded {
		op.Progress, op.Error = 100, nil
		if !r.saga.beyondReturn(op.Steps) {
			sql += ` AND NOT cancel_requested`
		}
	}
	r.ending.Store(true)
	defer r.ending.Store(false)
	err := pg.InTx(r.held, r.engine.cfg.Pool, func(tx pgx.Tx) error {
		if err := r.onEnd(tx, op); err != nil {
			return fmt.Errorf("saga's end: %w", err)
		}
		tag, err := tx.Exec(r.held, sql, r.id, r.epoch, status, op.Steps, op.Progress, encode(op.Error), now)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errLost
		}
		return r.engine.notify(r.held, tx, op.ID)
	})
	if err != nil {
		return err
	}
	r.update(func(o *row) { o.Operation = op })
	r.engine.metrics.ended(op)
	r.engine.changed(op)
	r.log.InfoContext(r.held, "operation ended", "status", status, "duration_ms", now.Sub(op.CreatedAt).Milliseconds())
	return nil
}

// onEnd calls the saga's. A panic is an error.
func (r *Run) onEnd(tx pgx.Tx, op Operation) (err error) {
	if r.saga.OnEnd == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = errs.ErrInternal.Wrap(fmt.Errorf("panic: %v", p))
		}
	}()
	return r.saga.OnEnd(r.held, tx, op)
}

// canceled tells whether a user has canceled the operation; errLost says that it is not ours any more.
func (e *Engine) canceled(ctx context.Context, id uuid.UUID, epoch int64) (canceled bool, err error) {
	err = e.cfg.Pool.QueryRow(ctx, `SELECT cancel_requested FROM operations WHERE `+fence, id, epoch).Scan(&canceled)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, errLost
	}
	return canceled, pg.Map(err)
}
