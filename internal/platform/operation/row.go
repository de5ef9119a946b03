package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
)

func jitter(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return rand.N(limit)
}

// row is an operation with what only the engine sees.
type row struct {
	Operation
	input   json.RawMessage
	state   json.RawMessage
	undoing bool
	epoch   int64
}

const columns = `id, kind, target_id, tenant_id, requested_by, generation, status, undoing, cancel_requested, steps, progress, input, state,
	error, lease_epoch, deadline, created_at, started_at, ended_at, updated_at`

func scan(r pgx.CollectableRow) (row, error) {
	var o row
	var failure []byte
	err := r.Scan(&o.ID, &o.Kind, &o.TargetID, &o.TenantID, &o.RequestedBy, &o.Generation, &o.Status, &o.undoing, &o.CancelRequested, &o.Steps,
		&o.Progress, &o.input, &o.state, &failure, &o.epoch, &o.Deadline, &o.CreatedAt, &o.StartedAt, &o.EndedAt, &o.UpdatedAt)
	o.Error = errs.Decode(failure)
	return o, err
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func one(ctx context.Context, q querier, sql string, args ...any) (row, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return row{}, pg.Map(err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return row{}, ErrNotFound
	}
	return o, pg.Map(err)
}

// Create writes an operation and has it delivered, both in the caller's transaction.
func (e *Engine) Create(ctx context.Context, tx pgx.Tx, n New) (Operation, error) {
	o, err := e.insert(ctx, tx, n, StatusPending)
	if err != nil {
		return Operation{}, err
	}
	if _, err := e.client.InsertTx(ctx, tx, advance{OperationID: o.ID}, nil); err != nil {
		return Operation{}, fmt.Errorf("deliver operation: %w", err)
	}
	return o, nil
}

// CreateEnded writes an operation that had nothing to do and has succeeded.
func (e *Engine) CreateEnded(ctx context.Context, tx pgx.Tx, n New) (Operation, error) {
	return e.insert(ctx, tx, n, StatusSucceeded)
}

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
	steps, progress, ended := make([]StepRecord, len(saga.Steps)), 0, false
	for i, s := range saga.Steps {
		steps[i] = StepRecord{Name: s.Name, Status: StepPending}
		if status == StatusSucceeded {
			steps[i].Status = StepSkipped
		}
	}
	if status == StatusSucceeded {
		progress, ended = 100, true
	}
	o, err := one(ctx, tx, `INSERT INTO operations (id, kind, target_id, tenant_id, requested_by, idempotency_key, generation, status, steps, progress, input, deadline, started_at, ended_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + $12::interval, CASE WHEN $13 THEN now() END, CASE WHEN $13 THEN now() END) RETURNING `+columns,
		n.ID, n.Kind, n.TargetID, n.TenantID, n.RequestedBy, n.IdempotencyKey, n.Generation, status, steps, progress, input, saga.Deadline, ended)
	if constraint, _ := pg.Violation(err); constraint == "operations_idempotency" {
		return Operation{}, ErrDuplicateKey
	}
	if err != nil {
		return Operation{}, fmt.Errorf("write operation: %w", err)
	}
	return o.Operation, nil
}

// Supersede ends a live operation as canceled because a newer one takes over its target, in the transaction that writes the newer one.
// Nothing is undone: that is the newer one's to decide. The runner is interrupted once the transaction has committed, and every
// write that it still tries fails. An operation that has ended is left as it is.
func (e *Engine) Supersede(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	o, err := one(ctx, tx, `UPDATE operations SET status = 'canceled', error = $2, ended_at = now(), updated_at = now(), lease_epoch = lease_epoch + 1,
		lease_until = NULL, lease_owner = '' WHERE id = $1 AND ended_at IS NULL RETURNING `+columns, id, errs.Encode(ErrSuperseded))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	e.metrics.ended(o.Operation)
	if saga := e.sagas[o.Kind]; saga.OnEnd != nil {
		if err := saga.OnEnd(ctx, tx, o.Operation); err != nil {
			return err
		}
	}
	return e.notify(ctx, tx, id)
}

// Cancel asks an operation to stop and to undo what it did.
func (e *Engine) Cancel(ctx context.Context, id uuid.UUID) (Operation, error) {
	var o row
	err := pg.InTx(ctx, e.cfg.Pool, func(tx pgx.Tx) (err error) {
		if o, err = one(ctx, tx, `SELECT `+columns+` FROM operations WHERE id = $1 FOR UPDATE`, id); err != nil {
			return err
		}
		switch {
		case o.EndedAt != nil:
			return ErrEnded
		case e.pastReturn(o):
			return ErrNotCancelable
		case o.CancelRequested:
			return nil
		}
		if o, err = one(ctx, tx, `UPDATE operations SET cancel_requested = true, next_attempt_at = now(), updated_at = now() WHERE id = $1 RETURNING `+columns, id); err != nil {
			return err
		}
		// The one that is at work is told by the notice; where nobody is, this delivery makes the cancellation happen.
		if _, err := e.client.InsertTx(ctx, tx, advance{OperationID: id}, nil); err != nil {
			return err
		}
		return e.notify(ctx, tx, id)
	})
	return o.Operation, pg.Map(err)
}

// pastReturn tells whether the step of no return has begun.
func (e *Engine) pastReturn(o row) bool {
	name := e.sagas[o.Kind].PointOfNoReturn
	begun := false
	for _, s := range o.Steps {
		begun = begun || name != "" && s.Name == name && s.Status != StepPending
	}
	return begun
}

// Get reads one operation, whichever tenant it belongs to.
func (e *Engine) Get(ctx context.Context, id uuid.UUID) (Operation, error) {
	o, err := one(ctx, e.cfg.Pool, `SELECT `+columns+` FROM operations WHERE id = $1`, id)
	return o.Operation, err
}

// FindByIdempotencyKey looks for the operation that an earlier request of the same key began.
func (e *Engine) FindByIdempotencyKey(ctx context.Context, requestedBy uuid.UUID, kind, key string) (Operation, bool, error) {
	o, err := one(ctx, e.cfg.Pool, `SELECT `+columns+` FROM operations WHERE requested_by = $1 AND kind = $2 AND idempotency_key = $3 AND $3 <> ''`, requestedBy, kind, key)
	if errors.Is(err, ErrNotFound) {
		return Operation{}, false, nil
	}
	return o.Operation, err == nil, err
}

// Cursor is a position in a list, newest first.
type Cursor struct {
	CreatedAt time.Time
	ID        uuid.UUID
}

// Filter narrows a list. Zero fields stand for any.
type Filter struct {
	TenantID *uuid.UUID
	TargetID *uuid.UUID
	Kind     string
	Status   Status
	After    *Cursor // the last item of the page before
	Limit    int
}

// List lists operations, newest first.
func (e *Engine) List(ctx context.Context, f Filter) ([]Operation, error) {
	after := Cursor{CreatedAt: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	if f.After != nil {
		after = *f.After
	}
	rows, err := e.cfg.Pool.Query(ctx, `SELECT `+columns+` FROM operations
		WHERE (created_at, id) < ($1, $2) AND ($3::uuid IS NULL OR tenant_id = $3) AND ($4::uuid IS NULL OR target_id = $4)
			AND ($5 = '' OR kind = $5) AND ($6 = '' OR status = $6)
		ORDER BY created_at DESC, id DESC LIMIT $7`, after.CreatedAt, after.ID, f.TenantID, f.TargetID, f.Kind, string(f.Status), f.Limit)
	if err != nil {
		return nil, fmt.Errorf("list operations: %w", pg.Map(err))
	}
	list, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("list operations: %w", pg.Map(err))
	}
	ops := make([]Operation, len(list))
	for i, o := range list {
		ops[i] = o.Operation
	}
	return ops, nil
}

var _ river.Worker[advance] = (*worker)(nil)
