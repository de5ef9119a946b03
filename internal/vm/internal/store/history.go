package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
)

// historyDetail is what is kept of a change.
type historyDetail struct {
	From        string     `json:"from,omitempty"`
	To          string     `json:"to,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Code        string     `json:"code,omitempty"`
	OperationID *uuid.UUID `json:"operation_id,omitempty"`
}

// writeHistory keeps a change of a machine that goes on to be. Addresses come and go too often to be kept.
func writeHistory(ctx context.Context, tx pgx.Tx, id uuid.UUID, r vm.VM, kind string, metadata map[string]any) error {
	if _, addresses := metadata["networks"]; addresses || kind == "deleted" || r.DesiredState == vm.DesiredDeleted {
		return nil
	}
	encoded, err := json.Marshal(metadata)
	if err != nil {
		return fmt.Errorf("encode what happened: %w", err)
	}
	var detail historyDetail
	if err := json.Unmarshal(encoded, &detail); err != nil {
		return fmt.Errorf("read what happened: %w", err)
	}
	// A creation that failed has no row any more to have a history.
	const insert = `INSERT INTO vm_history (id, vm_id, kind, detail) SELECT $1, id, $3, $4 FROM vms WHERE id = $2`
	if _, err := tx.Exec(ctx, insert, id, r.ID, kind, mustJSON(detail)); err != nil {
		return fmt.Errorf("keep what happened: %w", err)
	}
	return nil
}

// History lists what happened to a virtual machine and the operations on it, newest first, after a position.
func (s *Store) History(ctx context.Context, id uuid.UUID, before time.Time, beforeID uuid.UUID, limit int) ([]vm.HistoryItem, error) {
	const list = `
SELECT * FROM (
    (SELECT id, at, 'event' AS type, kind, '' AS status, NULL::uuid AS requested_by, detail, NULL::jsonb AS error FROM vm_history
     WHERE vm_id = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4)
    UNION ALL
    (SELECT id, created_at, 'operation', kind, status, requested_by, '{}'::jsonb, error FROM operations
     WHERE target_id = $1 AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4)
) h ORDER BY at DESC, id DESC LIMIT $4`
	rows, err := s.pool.Query(ctx, list, id, pageStart(before), beforeID, limit)
	if err != nil {
		return nil, fmt.Errorf("list history: %w", pg.Map(err))
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (vm.HistoryItem, error) {
		var item vm.HistoryItem
		var detail, failure []byte
		if err := row.Scan(&item.ID, &item.At, &item.Type, &item.Kind, &item.Status, &item.RequestedBy, &detail, &failure); err != nil {
			return item, err
		}
		var d historyDetail
		if err := json.Unmarshal(detail, &d); err != nil {
			return item, fmt.Errorf("read detail: %w", err)
		}
		item.At = item.At.UTC()
		item.From, item.To, item.Reason, item.Code, item.OperationID = d.From, d.To, d.Reason, d.Code, d.OperationID
		if item.Type == "operation" {
			item.OperationID = &item.ID
			if len(failure) > 0 {
				item.Code = errs.Decode(failure).Code
			}
		}
		return item, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list history: %w", pg.Map(err))
	}
	return items, nil
}

// ForgetHistory drops what happened long ago.
func (s *Store) ForgetHistory(ctx context.Context) error {
	if err := s.q.VMHistoryForget(ctx, s.pool); err != nil {
		return fmt.Errorf("forget old history: %w", pg.Map(err))
	}
	return nil
}
