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

// Get reads one operation, whichever tenant it belongs to.
func (e *Engine) Get(ctx context.Context, id uuid.UUID) (Operation, error) {
	o, err := get(ctx, e.cfg.Pool, id, "")
	if err != nil {
		return Operation{}, err
	}
	return o.Operation, nil
}

// FindByIdempotencyKey looks for the operation that an earlier request with the same key began, within a day.
func (e *Engine) FindByIdempotencyKey(ctx context.Context, requestedBy uuid.UUID, kind, key string) (Operation, bool, error) {
	if key == "" {
		return Operation{}, false, nil
	}
	o, err := one(ctx, e.cfg.Pool, `SELECT `+columns+` FROM operations
		WHERE requested_by = $1 AND kind = $2 AND idempotency_key = $3 AND created_at >= clock_timestamp() - $4::interval`, requestedBy, kind, key, keyLife)
	if errors.Is(err, ErrNotFound) {
		return Operation{}, false, nil
	}
	if err != nil {
		return Operation{}, false, fmt.Errorf("find operation by idempotency key: %w", err)
	}
	return o.Operation, true, nil
}

// Cursor is a position in a list, newest first.
type Cursor struct {
	CreatedAt time.Time
	ID        uuid.UUID
}

// Filter narrows a list. Zero fields stand for any.
type Filter struct {
	TenantID    *uuid.UUID
	RequestedBy *uuid.UUID
	TargetID    *uuid.UUID
	Kind        string
	Status      Status
	After       *Cursor // the last item of the page before
	Limit       int     // 0 means 50
}

// defaultLimit is the length of a page where the caller does not say.
const defaultLimit = 50

// List lists operations, newest first.
func (e *Engine) List(ctx context.Context, f Filter) ([]Operation, error) {
	// Conditions are left out rather than made true by a parameter, so that the planner sees which index fits.
	sql, args := `SELECT `+columns+` FROM operations WHERE true`, []any{}
	where := func(condition string, values ...any) {
		placeholders := make([]any, len(values))
		for i, v := range values {
			args = append(args, v)
			placeholders[i] = fmt.Sprintf("$%d", len(args))
		}
		sql += " AND " + fmt.Sprintf(condition, placeholders...)
	}
	if f.TenantID != nil {
		where("tenant_id = %s", *f.TenantID)
	}
	if f.RequestedBy != nil {
		where("requested_by = %s", *f.RequestedBy)
	}
	if f.TargetID != nil {
		where("target_id = %s", *f.TargetID)
	}
	if f.Kind != "" {
		where("kind = %s", f.Kind)
	}
	if f.Status != "" {
		where("status = %s", f.Status)
	}
	if f.After != nil {
		where("(created_at, id) < (%s, %s)", f.After.CreatedAt, f.After.ID)
	}
	if f.Limit <= 0 {
		f.Limit = defaultLimit
	}
	sql += fmt.Sprintf(" ORDER BY created_at DESC, id DESC LIMIT %d", f.Limit)
	rows, err := e.cfg.Pool.Query(ctx, sql, args...)
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

// lastLook bounds the reading of an operation for somebody whose own time is up.
const lastLook = 2 * time.Second

// Wait waits for the end of an operation. When ctx ends first it answers the operation as it is then, with ctx's error.
func (e *Engine) Wait(ctx context.Context, id uuid.UUID) (Operation, error) {
	var last Operation
	err := e.Watch(ctx, id, func(op Operation) error { last = op; return nil })
	if err == nil || ctx.Err() == nil {
		return last, err
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
	defer cancel()
	if op, err := e.Get(look, id); err == nil {
		last = op
	}
	return last, ctx.Err()
}

// Watch calls each with the operation at once and after every change, and returns once it has ended. It returns the error of
// each, or of ctx. Changes that follow each other closely may be told as one. A database that goes away is waited for.
func (e *Engine) Watch(ctx context.Context, id uuid.UUID, each func(Operation) error) error {
	wake, done := e.hub.wait(id)
	defer done()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var seen time.Time
	for {
		op, err := e.Get(ctx, id)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (seen.IsZero() || !errs.Retryable(err)):
			return err
		case err != nil: // it comes back
		case !op.UpdatedAt.Equal(seen):
			seen = op.UpdatedAt
			if err := each(op); err != nil {
				return err
			}
		}
		if err == nil && op.EndedAt != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-tick.C:
		}
	}
}
