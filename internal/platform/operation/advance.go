package operation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

const (
	// shortPause is the longest pause between attempts in which a runner keeps lease and worker; for longer ones it gives both back.
	shortPause = time.Second
	// The pauses between attempts: the first, and the longest ones.
	firstPause      = 200 * time.Millisecond
	maxPauseForward = 10 * time.Second
	maxPauseUndo    = 60 * time.Second
)

// pause is how long to wait after the n-th failure of a step: doubling up to limit, less up to a fifth of it by chance, so that those
// who failed together do not return together.
func pause(n int, limit time.Duration) time.Duration {
	d := firstPause
	for range n - 1 {
		if d *= 2; d >= limit {
			break
		}
	}
	d = min(d, limit)
	return d - rand.N(d/5+1)
}

// advance takes the operation's lease and carries it on, as far as it goes. Whoever finds the lease taken leaves. again is set where
// the operation is to be delivered again after a while.
func (e *Engine) advance(id uuid.UUID) (after time.Duration, again bool) {
	if e.base.Err() != nil {
		return 0, false
	}
	since := time.Now()
	o, err := e.claim(id)
	switch {
	case errors.Is(err, ErrNotFound):
		return e.early(e.base, id)
	case err != nil:
		e.cfg.Log.Warn("operation could not be claimed; the sweeper tries again", "operation_id", id, "error", err)
		return 0, false
	}
	r := &Run{engine: e, saga: e.sagas[o.Kind], id: id, epoch: o.epoch, row: o,
		log: e.cfg.Log.With("operation_id", id, "operation", o.Kind, "target_id", o.TargetID)}
	traced, span := r.trace(e.base)
	defer func() { span.End(failureOf(r.snapshot().Error)) }()
	r.held, r.lose = context.WithCancelCause(traced)
	defer r.lose(nil)
	r.steps, r.cancel = context.WithCancelCause(r.held)
	defer r.cancel(nil)
	e.hold(r, since)
	defer e.letGo(r)
	if o.CancelRequested {
		r.cancel(errUser)
	}
	e.changed(o.Operation)

	err = r.carryOn()
	if paused, ok := errors.AsType[errPaused](err); ok {
		return paused.after, true
	}
	switch {
	case err == nil:
	case errors.Is(err, errLost):
		r.log.InfoContext(r.held, "operation is not ours any more")
	case errors.Is(err, errStopped):
		if _, err := r.release(0); err != nil && !errors.Is(err, errLost) {
			r.log.WarnContext(r.held, "lease could not be given back; it runs out", "error", err)
		}
	default:
		r.log.ErrorContext(r.held, "operation could not be written; it is tried again", "error", err)
		wait, err := r.release(maxPauseForward)
		return wait, err == nil
	}
	return 0, false
}

// carryOn goes forward from the first step that has not succeeded, or goes on undoing, until the operation ends.
func (r *Run) carryOn() error {
	r.align()
	if !r.row.undoing {
		err := r.forward()
		if err == nil {
			err = r.end(StatusSucceeded)
		}
		failed, ok := errors.AsType[failure](err)
		if !ok {
			return err
		}
		r.update(func(o *row) { o.undoing, o.Error = true, failed.err })
		r.log.InfoContext(r.held, "operation is being undone", "error", failed.err)
		if err := r.save(); err != nil {
			return err
		}
	}
	if err := r.backward(); err != nil {
		return err
	}
	if errors.Is(failureOf(r.row.Error), ErrCanceled) {
		return r.end(StatusCanceled)
	}
	return r.end(StatusFailed)
}

func failureOf(e *errs.Error) error {
	if e == nil { // a nil *errs.Error in an error is not nil
		return nil
	}
	return e
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
			delete(known, step.Name)
		}
	}
	for name, record := range known {
		if record.Status != StepPending {
			r.log.WarnContext(r.held, "the saga has lost a step that had begun; it is neither finished nor undone", "step", name)
		}
	}
	r.update(func(o *row) { o.Steps = records })
}

func (r *Run) forward() error {
	for i := range r.saga.Steps {
		if r.row.Steps[i].Status == StepSucceeded {
			continue
		}
		if err := r.do(i); err != nil {
			return err
		}
		r.record(i, func(s *StepRecord, now *time.Time) { s.Status, s.EndedAt, s.Error = StepSucceeded, now, nil })
		r.update(func(o *row) { o.Progress = max(o.Progress, progressAt(r.saga.Steps, i+1, 0)) })
		if i == len(r.saga.Steps)-1 {
			break // the last step is written with the operation's end
		}
		if err := r.save(); err != nil {
			return err
		}
	}
	return nil
}

// record changes a step's record in memory.
func (r *Run) record(i int, change func(s *StepRecord, now *time.Time)) {
	now := time.Now().UTC()
	r.update(func(o *row) { r.step = i; change(&o.Steps[i], &now) })
}

// do tries one step until it succeeds or fails for good.
func (r *Run) do(i int) error {
	step, last := r.saga.Steps[i], r.saga.pointOfNoReturn()
	for {
		// Beyond the point of no return there is only forward.
		beyond := i > last || i == last && r.row.Steps[i].Status != StepPending
		if err := r.halt(i, beyond); err != nil {
			return err
		}
		r.record(i, func(s *StepRecord, now *time.Time) {
			if s.StartedAt == nil {
				s.StartedAt = now
			}
			s.Status, s.Attempts = StepRunning, s.Attempts+1
		})
		if err := r.begin(beyond); err != nil {
			return err
		}
		ctx, cancel := r.held, context.CancelFunc(func() {})
		if i < last {
			ctx, cancel = context.WithDeadlineCause(r.steps, r.row.Deadline, errLate)
		}
		err := r.guard(ctx, step, "do", step.Do)
		cancel()
		if err == nil {
			return nil
		}
		if r.held.Err() != nil {
			return context.Cause(r.held)
		}
		e := storable(errs.From(err).AtStep(step.Name))
		r.engine.metrics.stepFailed(r.row.Kind, step.Name)
		if i < last && ctx.Err() != nil && !errs.Retryable(err) {
			if halted := r.halt(i, false); halted != nil {
				return halted // the step ended because its context did
			}
		}
		r.record(i, func(s *StepRecord, _ *time.Time) { s.Error = e })
		attempts, pausing := r.row.Steps[i].Attempts, r.steps
		var wait time.Duration
		switch {
		case i >= last:
			wait, pausing = pause(attempts, maxPauseUndo), r.held
		case errs.Retryable(err):
			wait = min(pause(attempts, maxPauseForward), max(time.Until(r.row.Deadline), 0))
		default:
			r.record(i, func(s *StepRecord, now *time.Time) { s.Status, s.EndedAt = StepFailed, now })
			return failure{e}
		}
		r.log.InfoContext(r.held, "step failed; it is tried again", "step", step.Name, "attempt", attempts, "wait", wait, "error", err)
		if err := r.wait(pausing, wait); err != nil {
			return err
		}
	}
}

// halt tells why a step must not be tried, or tried again.
func (r *Run) halt(i int, beyond bool) error {
	name := r.saga.Steps[i].Name
	switch {
	case r.held.Err() != nil:
		return context.Cause(r.held)
	case beyond:
		return nil
	case r.steps.Err() != nil:
		return failure{ErrCanceled.AtStep(name)}
	case !time.Now().Before(r.row.Deadline):
		late := ErrDeadline.AtStep(name)
		if e := r.row.Steps[i].Error; e != nil {
			late = late.WithMessage("the operation did not finish in time; the last attempt failed: %s", e.Message).WithMeta("last_code", e.Code)
		}
		return failure{late}
	}
	return nil
}

// begin writes that a step begins. Up to the point of no return it does not, once a user has canceled; that is decided here, in one
// statement, so that Cancel and the point of no return cannot both be passed.
func (r *Run) begin(beyond bool) error {
	if beyond {
		return r.save()
	}
	err := r.saveIf(` AND NOT cancel_requested`)
	if !errors.Is(err, errLost) {
		return err
	}
	return r.canceledOrLost()
}

// canceledOrLost tells which of both held a write back.
func (r *Run) canceledOrLost() error {
	var canceled bool
	err := r.persist(func() (err error) {
		canceled, err = r.engine.canceled(r.held, r.id, r.epoch)
		return err
	})
	if err != nil {
		return err
	}
	if !canceled {
		return errLost
	}
	r.cancel(errUser)
	return failure{ErrCanceled.AtStep(r.saga.Steps[r.step].Name)}
}

// guard runs one Do or Undo between the two points where tests inject faults. A panic is an error of the step.
func (r *Run) guard(ctx context.Context, step Step, what string, call func(context.Context, *Run) error) (err error) {
	ctx, span := r.traceStep(ctx, step, what)
	defer func() { span.End(err) }()
	defer func() {
		if p := recover(); p != nil {
			r.log.ErrorContext(r.held, "step panicked", "step", step.Name, "what", what, "panic", p, "stack", string(debug.Stack()))
			err = errs.ErrInternal.Wrap(fmt.Errorf("panic: %v", p))
		}
	}()
	fault := r.engine.cfg.Fault
	if fault == nil {
		return call(ctx, r)
	}
	if err := fault(r.saga.Kind, step.Name, "before "+what); err != nil {
		return err
	}
	if err := call(ctx, r); err != nil {
		return err
	}
	return fault(r.saga.Kind, step.Name, "after "+what)
}

// wait lets a pause pass: a short one here, a longer one by giving lease and worker back. The end of ctx ends a short one early.
func (r *Run) wait(ctx context.Context, d time.Duration) error {
	if d > shortPause {
		var wait time.Duration
		err := r.persist(func() (err error) { wait, err = r.release(d); return err })
		if err != nil {
			return err
		}
		return errPaused{after: wait}
	}
	if err := r.save(); err != nil {
		return err
	}
	return r.sleep(ctx, d)
}
