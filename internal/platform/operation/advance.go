package operation

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
)

// The causes that end a run early.
var (
	errLost   = errors.New("operation: the lease is lost")
	errUser   = errors.New("operation: canceled by a user")
	errPaused = errors.New("operation: left for a later attempt")
)

// shortPause is the longest pause between attempts in which a runner keeps lease and worker; for longer ones it gives both back.
const shortPause = 2 * time.Second

// The longest pauses between attempts.
const (
	maxPauseForward = 10 * time.Second
	maxPauseUndo    = 60 * time.Second
)

// advance takes the operation's lease and carries it on, as far as it goes. Whoever finds the lease taken leaves.
func (e *Engine) advance(ctx context.Context, id uuid.UUID) {
	o, err := e.claim(ctx, id)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			e.cfg.Log.WarnContext(ctx, "operation could not be claimed; the sweeper tries again", "operation_id", id, "error", err)
		}
		return
	}
	// Two contexts, because a user's cancellation ends the steps forward but neither the lease nor the undo.
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	steps, cancel := context.WithCancelCause(held)
	defer cancel(nil)
	run := &control{lose: lose, cancel: cancel}
	e.mu.Lock()
	e.runs[id] = run
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.runs[id] == run { // not so where this run lost its lease to another of this process
			delete(e.runs, id)
		}
	}()
	r := &Run{engine: e, saga: e.sagas[o.Kind], row: o, log: e.cfg.Log.With("operation_id", id, "operation", o.Kind, "target_id", o.TargetID)}
	renewed := make(chan struct{})
	go func() { // ends with held
		defer close(renewed)
		e.renew(held, run, id, o.epoch)
	}()
	if o.CancelRequested {
		cancel(errUser)
	}
	err = r.carryOn(held, steps)
	lose(nil)
	<-renewed
	if err != nil && !errors.Is(err, errLost) && !errors.Is(err, errPaused) {
		r.log.WarnContext(ctx, "operation interrupted; it goes on later", "error", err)
		r.release(context.WithoutCancel(ctx), 0)
	}
}

// control interrupts a run.
type control struct {
	lose   context.CancelCauseFunc // the whole of it: the lease is gone
	cancel context.CancelCauseFunc // its steps forward: a user wants it undone
}

// claim takes the lease of an operation that is due and that nobody holds.
func (e *Engine) claim(ctx context.Context, id uuid.UUID) (row, error) {
	return one(ctx, e.cfg.Pool, `UPDATE operations SET status = 'running', lease_owner = $2, lease_epoch = lease_epoch + 1, lease_until = now() + $3::interval,
		started_at = coalesce(started_at, now()), updated_at = now()
		WHERE id = $1 AND ended_at IS NULL AND (lease_until IS NULL OR lease_until < now()) AND next_attempt_at <= now() RETURNING `+columns,
		id, e.cfg.Owner, e.cfg.Lease)
}

// renew keeps the lease, and interrupts the run when it is lost or a user cancels.
func (e *Engine) renew(ctx context.Context, run *control, id uuid.UUID, epoch int64) {
	tick := time.NewTicker(e.cfg.Renew)
	defer tick.Stop()
	until := time.Now().Add(e.cfg.Lease)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var canceled bool
		attempt, done := context.WithTimeout(ctx, e.cfg.Renew)
		err := e.cfg.Pool.QueryRow(attempt, `UPDATE operations SET lease_until = now() + $3::interval WHERE id = $1 AND lease_epoch = $2 AND ended_at IS NULL RETURNING cancel_requested`,
			id, epoch, e.cfg.Lease).Scan(&canceled)
		done()
		switch {
		case err == nil:
			until = time.Now().Add(e.cfg.Lease)
			if canceled {
				run.cancel(errUser)
			}
		case errors.Is(err, pgx.ErrNoRows), time.Now().After(until):
			run.lose(errLost) // taken over, or not to be told from that
			return
		}
	}
}

// Run is an operation at work, as its steps see it.
type Run struct {
	engine *Engine
	saga   Saga
	row    row
	log    logger
	step   int       // index of the step at work
	told   time.Time // when progress was last written
}

// Operation gives the operation as it was last written.
func (r *Run) Operation() Operation { return r.row.Operation }

// carryOn goes forward from the first step that has not succeeded, or goes on undoing, until the operation ends.
func (r *Run) carryOn(held, steps context.Context) error {
	r.align()
	if !r.row.undoing {
		failure := r.forward(steps)
		switch {
		case failure == nil:
			return r.end(held, StatusSucceeded)
		case errors.Is(failure, errLost), errors.Is(failure, errPaused), errors.Is(failure, errStopped):
			return failure
		}
		if err := r.fail(held, failure); err != nil {
			return err
		}
	}
	if err := r.backward(held); err != nil {
		return err
	}
	if r.row.Error != nil && r.row.Error.Is(ErrCanceled) {
		return r.end(held, StatusCanceled)
	}
	return r.end(held, StatusFailed)
}

// align matches the operation's records with the saga's steps by name, because an older version of the saga may have begun it.
func (r *Run) align() {
	known := map[string]StepRecord{}
	for _, record := range r.row.Steps {
		known[record.Name] = record
	}
	records := make([]StepRecord, len(r.saga.Steps))
	for i, step := range r.saga.Steps {
		records[i] = StepRecord{Name: step.Name, Status: StepPending}
		if record, ok := known[step.Name]; ok {
			records[i] = record
		}
	}
	r.row.Steps = records
}

// fail notes why the operation is to be undone.
func (r *Run) fail(ctx context.Context, failure error) error {
	r.row.undoing, r.row.Error = true, errs.From(failure)
	if !errors.Is(failure, ErrCanceled) {
		r.log.WarnContext(ctx, "operation failed; its steps are being undone", "error", failure)
	}
	if err := r.save(ctx); err != nil {
		return interruption(ctx, err)
	}
	return nil
}

func (r *Run) forward(ctx context.Context) error {
	for i, step := range r.saga.Steps {
		record := &r.row.Steps[i]
		if record.Status == StepSucceeded {
			continue
		}
		r.step = i
		if err := r.attempt(ctx, step, record); err != nil {
			return err
		}
		now := time.Now().UTC()
		record.Status, record.EndedAt, record.Error = StepSucceeded, &now, nil
		r.row.Progress = r.progressAt(i+1, 0)
		if i < len(r.saga.Steps)-1 { // the last step is written with the operation's end
			if err := r.save(ctx); err != nil {
				return interruption(ctx, err)
			}
		}
	}
	return nil
}

// attempt tries one step until it succeeds, fails for good, or the time is up.
func (r *Run) attempt(ctx context.Context, step Step, record *StepRecord) error {
	beyond := r.engine.pastReturn(r.row) || step.Name == r.saga.PointOfNoReturn
	for {
		if err := interruption(ctx, nil); err != nil && !(beyond && errors.Is(err, ErrCanceled)) {
			return err
		}
		if time.Now().After(r.row.Deadline) && !beyond {
			cause := ErrDeadline
			if record.Error != nil {
				cause = cause.WithMessage("the operation did not finish in time; the last attempt failed: %s", record.Error.Message).WithMeta("last_code", record.Error.Code)
			}
			return cause.AtStep(step.Name)
		}
		now := time.Now().UTC()
		if record.StartedAt == nil {
			record.StartedAt = &now
		}
		record.Status = StepRunning
		record.Attempts++
		if err := r.save(ctx); err != nil {
			return interruption(ctx, err)
		}
		err := r.guard(ctx, step, "do", step.Do)
		if err == nil {
			return nil
		}
		if early := interruption(ctx, nil); early != nil && !(beyond && errors.Is(early, ErrCanceled)) {
			return early
		}
		record.Error = errs.From(err).AtStep(step.Name)
		r.engine.metrics.stepFailed(r.row.Kind, step.Name)
		switch {
		case beyond:
			err = r.wait(ctx, pause(record.Attempts, maxPauseUndo))
		case errs.Retryable(err):
			err = r.wait(ctx, pause(record.Attempts, maxPauseForward))
		default:
			record.Status = StepFailed
			return record.Error
		}
		if err != nil {
			return err
		}
	}
}

func (r *Run) backward(ctx context.Context) error {
	for i := len(r.saga.Steps) - 1; i >= 0; i-- {
		step, record := r.saga.Steps[i], &r.row.Steps[i]
		switch record.Status {
		case StepUndone, StepSkipped:
			continue
		case StepPending:
			record.Status = StepSkipped
			continue
		}
		r.step = i
		for attempts := 1; step.Undo != nil; attempts++ {
			if err := interruption(ctx, nil); err != nil {
				return err
			}
			err := r.guard(ctx, step, "undo", step.Undo)
			if err == nil {
				break
			}
			if early := interruption(ctx, nil); early != nil {
				return early
			}
			record.Error = errs.From(err).AtStep(step.Name)
			record.Attempts++
			r.engine.metrics.stepFailed(r.row.Kind, step.Name)
			r.log.Warn("step could not be undone; it is tried again", "step", step.Name, "attempt", attempts, "error", err)
			if err := r.wait(ctx, pause(record.Attempts, maxPauseUndo)); err != nil {
				return err
			}
		}
		now := time.Now().UTC()
		record.Status, record.EndedAt = StepUndone, &now
		if err := r.save(ctx); err != nil {
			return interruption(ctx, err)
		}
	}
	return nil
}

// guard runs one Do or Undo between the two points where tests inject faults. A panic is an error of the step.
func (r *Run) guard(ctx context.Context, step Step, what string, call func(context.Context, *Run) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("step panicked", "step", step.Name, "panic", p, "stack", string(debug.Stack()))
			err = errs.ErrInternal.Wrap(fmt.Errorf("panic: %v", p))
		}
	}()
	fault := r.engine.cfg.Fault
	if fault != nil {
		if err := fault(r.row.Kind, step.Name, "before "+what); err != nil {
			return err
		}
	}
	if err := call(ctx, r); err != nil {
		return err
	}
	if fault != nil {
		return fault(r.row.Kind, step.Name, "after "+what)
	}
	return nil
}

// wait lets a pause pass: a short one here, a longer one by giving lease and worker back.
func (r *Run) wait(ctx context.Context, d time.Duration) error {
	if d > shortPause {
		if err := r.save(ctx); err != nil {
			return interruption(ctx, err)
		}
		r.release(context.WithoutCancel(ctx), d)
		return errPaused
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return nil
}

// errStopped says that the process stops; the operation goes on in the next one.
var errStopped = errors.New("operation: the engine stops")

// interruption tells why a run must end now, or gives err back where nothing interrupts it.
func interruption(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errLost):
		return errLost
	case errors.Is(cause, errUser):
		return ErrCanceled
	default:
		return errStopped
	}
}

// save writes the run, if the lease is still its own.
func (r *Run) save(ctx context.Context) error {
	tag, err := r.engine.cfg.Pool.Exec(ctx, `UPDATE operations SET steps = $3, progress = $4, state = $5, undoing = $6, error = $7, updated_at = now()
		WHERE id = $1 AND lease_epoch = $2 AND ended_at IS NULL`,
		r.row.ID, r.row.epoch, r.row.Steps, r.row.Progress, r.row.state, r.row.undoing, errs.Encode(asError(r.row.Error)))
	if err != nil {
		return pg.Map(err)
	}
	if tag.RowsAffected() == 0 {
		return errLost
	}
	r.engine.hub.changed(r.row.ID)
	return nil
}

// release gives the lease back, to be taken again after d.
func (r *Run) release(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := r.engine.cfg.Pool.Exec(ctx, `UPDATE operations SET lease_until = NULL, delivered_at = '-infinity', updated_at = now(),
		next_attempt_at = CASE WHEN cancel_requested AND NOT undoing THEN now() ELSE now() + $3::interval END
		WHERE id = $1 AND lease_epoch = $2 AND ended_at IS NULL`, r.row.ID, r.row.epoch, d)
	if err != nil { // the lease runs out by itself
		r.log.WarnContext(ctx, "lease could not be given back", "error", err)
	}
}

// end ends the operation, with what its saga has to write, in one transaction. It tries until the database takes it.
func (r *Run) end(ctx context.Context, status Status) error {
	for n := 1; ; n++ {
		err := r.tryEnd(ctx, status)
		if err == nil || errors.Is(err, errLost) {
			return err
		}
		if early := interruption(ctx, nil); early != nil {
			return early
		}
		r.log.Warn("operation could not be ended; it is tried again", "attempt", n, "error", err)
		if err := r.wait(ctx, pause(n, maxPauseUndo)); err != nil {
			return err
		}
	}
}

func (r *Run) tryEnd(ctx context.Context, status Status) error {
	op := r.row.Operation
	now := time.Now().UTC()
	op.Status, op.EndedAt = status, &now
	if status == StatusSucceeded {
		op.Progress, op.Error = 100, nil
	}
	err := pg.InTx(ctx, r.engine.cfg.Pool, func(tx pgx.Tx) error {
		if r.saga.OnEnd != nil {
			if err := r.saga.OnEnd(ctx, tx, op); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `UPDATE operations SET status = $3, steps = $4, progress = $5, error = $6, ended_at = now(), updated_at = now(), lease_until = NULL, lease_owner = ''
			WHERE id = $1 AND lease_epoch = $2 AND ended_at IS NULL`, op.ID, r.row.epoch, status, op.Steps, op.Progress, errs.Encode(asError(op.Error)))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errLost
		}
		return r.engine.notify(ctx, tx, op.ID)
	})
	if err != nil {
		return err
	}
	r.engine.metrics.ended(op)
	r.engine.hub.changed(op.ID)
	r.log.Info("operation ended", "status", status, "duration_ms", now.Sub(op.CreatedAt).Milliseconds())
	return nil
}

func asError(e *errs.Error) error {
	if e == nil {
		return nil
	}
	return e
}
