package operation

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
)

// row is an operation with what only the engine sees.
type row struct {
	Operation
	input   json.RawMessage
	state   json.RawMessage
	undoing bool
	epoch   int64
	parent  string // the place in the trace of the request that asked for it
}

const columns = `id, kind, target_id, tenant_id, requested_by, generation, status, undoing, cancel_requested, steps, progress, input, state,
	error, lease_epoch, trace_parent, deadline, created_at, started_at, ended_at, updated_at`

func scan(r pgx.CollectableRow) (row, error) {
	var o row
	var failure []byte
	err := r.Scan(&o.ID, &o.Kind, &o.TargetID, &o.TenantID, &o.RequestedBy, &o.Generation, &o.Status, &o.undoing, &o.CancelRequested, &o.Steps,
		&o.Progress, &o.input, &o.state, &failure, &o.epoch, &o.parent, &o.Deadline, &o.CreatedAt, &o.StartedAt, &o.EndedAt, &o.UpdatedAt)
	o.Error, o.State = errs.Decode(failure), o.state
	return o, err
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// one reads one operation, or answers ErrNotFound.
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

// get reads one operation by its id.
func get(ctx context.Context, q querier, id uuid.UUID, suffix string) (row, error) {
	return one(ctx, q, `SELECT `+columns+` FROM operations WHERE id = $1`+suffix, id)
}
