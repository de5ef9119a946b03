package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// keyLife is how long an idempotency key names its operation.
const keyLife = 24 * time.Hour

// Create writes an operation and has it delivered, both in the caller's transaction. It answers ErrDuplicateKey where the same
// requester has begun an operation of this kind with the same idempotency key within a day; the transaction is of no use then.
func (e *Engine) Create(ctx context.Context, tx pgx.Tx, n New) (Operation, error) {
	op, err := e.insert(ctx, tx, n, StatusPending)
	if err != nil {
		return Operation{}, err
	}
	if _, err := e.client.InsertTx(ctx, tx, advance{OperationID: op.ID}, nil); err != nil {
		return Operation{}, fmt.Errorf("deliver operation: %w", pg.Map(err))
	}
	return op, nil
}

// CreateEnded writes an operation that had nothing to do and has succeeded. OnEnd is not called.
func (e *Engine) CreateEnded(ctx context.Context, tx pgx.Tx, n New) (Operation, error) {
	op, err := e.insert(ctx, tx, n, StatusSucceeded)
	if err == nil {
		e.metrics.ended(op)
	}
	return op, err
}

const insertSQL = `INSERT INTO operations (id, kind, target_id, tenant_id, requested_by, idempotency_key, generation, status, steps, progress,
		input, trace_parent, deadline, created_at, updated_at, started_at, ended_at)
	SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $14, t + $12::interval, t, t, CASE WHEN $13 THEN t END, CASE WHEN $13 THEN t END
	FROM clock_timestamp() t RETURNING ` + columns

const freeKeySQL = `UPDATE operations SET idempotency_key = ''
	WHERE requested_by = $1 AND kind = $2 AND idempotency_key = $3 AND created_at < clock_timestamp() - $4::interval`

func (e *Engine) insert(ctx context.Context, tx pgx.Tx, n New, status Status) (Operation, error) {
	saga, ok := e.sagas[n.Kind]
	if !ok {
		return Operation{}, fmt.Errorf("no saga of kind %q is registered", n.Kind)
	}
	if n.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return Operation{}, fmt.Errorf("make operation id: %w", err)
		}
		n.ID = id
	}
	input, err := json.Marshal(n.Input)
	if err != nil {
		return Operation{}, fmt.Errorf("encode input of operation: %w", err)
	}
	ended := status == StatusSucceeded
	steps, progress := make([]StepRecord, len(saga.Steps)), 0
	for i, s := range saga.Steps {
		steps[i] = StepRecord{Name: s.Name, Status: StepPending}
		if ended {
			steps[i].Status, progress = StepSkipped, 100
		}
	}
	if n.IdempotencyKey != "" {
		if _, err := tx.Exec(ctx, freeKeySQL, n.RequestedBy, n.Kind, n.IdempotencyKey, keyLife); err != nil {
			return Operation{}, fmt.Errorf("free old idempotency key: %w", pg.Map(err))
		}
	}
	o, err := one(ctx, tx, insertSQL, n.ID, n.Kind, n.TargetID, n.TenantID, n.RequestedBy, n.IdempotencyKey, n.Generation, status, steps, progress,
		input, saga.Deadline, ended, tracing.Parent(ctx))
	if constraint, _ := pg.Violation(err); constraint == "operations_idempotency" {
		return Operation{}, ErrDuplicateKey.Wrap(err)
	}
	if err != nil {
		return Operation{}, fmt.Errorf("write operation: %w", err)
	}
	return o.Operation, nil
}

const supersedeSQL = `UPDATE operations SET status = 'canceled', error = $2, ended_at = clock_timestamp(), updated_at = clock_timestamp(),
	lease_epoch = lease_epoch + 1, lease_until = NULL, lease_owner = '' WHERE id = $1 AND ended_at IS NULL RETURNING ` + columns

// Supersede ends a live operation as canceled because a newer one takes over its target, in the transaction that writes the newer one.
// Nothing is undone: what the older one did is the newer one's to finish or to remove. The runner is interrupted once the transaction has
// committed, and every write that it still tries fails. An operation that has ended is left as it is.
func (e *Engine) Supersede(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	o, err := one(ctx, tx, supersedeSQL, id, encode(ErrSuperseded))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("supersede operation: %w", err)
	}
	if saga := e.sagas[o.Kind]; saga.OnEnd != nil {
		if err := saga.OnEnd(ctx, tx, o.Operation); err != nil {
			return fmt.Errorf("end superseded operation: %w", err)
		}
	}
	e.metrics.ended(o.Operation)
	return e.notify(ctx, tx, id)
}

// Cancel asks an operation to stop and to undo what it did. It answers the operation as it is now: it ends when all is undone. One
// that is being undone already stays as it is. Errors: ErrNotFound, ErrEnded, ErrNotCancelable.
func (e *Engine) Cancel(ctx context.Context, id uuid.UUID) (Operation, error) {
	var o row
	err := pg.InTx(ctx, e.cfg.Pool, func(tx pgx.Tx) (err error) {
		if o, err = get(ctx, tx, id, ` FOR UPDATE`); err != nil {
			return err
		}
		switch {
		case o.EndedAt != nil:
			return ErrEnded
		case e.sagas[o.Kind].beyondReturn(o.Steps):
			return ErrNotCancelable
		case o.CancelRequested, o.undoing:
			return nil
		}
		o, err = one(ctx, tx, `UPDATE operations SET cancel_requested = true, next_attempt_at = clock_timestamp(), updated_at = clock_timestamp()
			WHERE id = $1 RETURNING `+columns, id)
		if err != nil {
			return err
		}
		// The one that is at work is told by the notice; where nobody is, this delivery makes the cancellation happen.
		if _, err := e.client.InsertTx(ctx, tx, advance{OperationID: id}, nil); err != nil {
			return fmt.Errorf("deliver cancellation: %w", err)
		}
		return e.notify(ctx, tx, id)
	})
	if err != nil {
		return Operation{}, pg.Map(err)
	}
	e.changed(o.Operation)
	e.interrupt(o.Operation)
	return o.Operation, nil
}

// pointOfNoReturn gives the index of the step of no return, or the number of steps where there is none.
func (s Saga) pointOfNoReturn() int {
	for i, step := range s.Steps {
		if step.Name == s.PointOfNoReturn {
			return i
		}
	}
	return len(s.Steps)
}

// beyondReturn tells whether the step of no return has begun.
func (s Saga) beyondReturn(records []StepRecord) bool {
	for _, r := range records {
		if r.Name == s.PointOfNoReturn && r.Status != StepPending {
			return s.PointOfNoReturn != ""
		}
	}
	return false
}
