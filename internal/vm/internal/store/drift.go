package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
)

// Settled is a virtual machine or a volume at which no operation is at work: all of it should be there.
type Settled struct {
	ID         uuid.UUID
	Generation int64
	VCPUs      int // of a virtual machine
	Volume     bool
}

// SettledOn lists what is settled on a node.
func (s *Store) SettledOn(ctx context.Context, node uuid.UUID) (map[uuid.UUID]Settled, error) {
	rows, err := s.q.VMListByNode(ctx, s.pool, &node)
	if err != nil {
		return nil, fmt.Errorf("list virtual machines of a node: %w", pg.Map(err))
	}
	settled := map[uuid.UUID]Settled{}
	for _, row := range rows {
		r, err := recordOf(row)
		if err != nil {
			return nil, err
		}
		if r.Provisioned && r.OperationID == nil && !r.Resizing {
			settled[r.ID] = Settled{ID: r.ID, Generation: r.Generation, VCPUs: r.Resources.VCPUs}
		}
	}
	volumes, err := s.pool.Query(ctx, `SELECT id, generation FROM volumes WHERE node_id = $1 AND operation_id IS NULL AND status = 'ready'`, node)
	if err != nil {
		return nil, fmt.Errorf("list volumes of a node: %w", pg.Map(err))
	}
	list, err := pgx.CollectRows(volumes, func(row pgx.CollectableRow) (v Settled, err error) {
		v.Volume = true
		err = row.Scan(&v.ID, &v.Generation) // before the answer is read, whose place it fills
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("list volumes of a node: %w", pg.Map(err))
	}
	for _, v := range list {
		settled[v.ID] = v
	}
	return settled, nil
}

// Known tells which of the ids have a row as virtual machine, volume or network.
func (s *Store) Known(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	rows, err := s.pool.Query(ctx, `SELECT id FROM vms WHERE id = ANY ($1) UNION ALL SELECT id FROM volumes WHERE id = ANY ($1)
		UNION ALL SELECT id FROM vm_networks WHERE id = ANY ($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("look for rows: %w", pg.Map(err))
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look for rows: %w", pg.Map(err))
	}
	known := make(map[uuid.UUID]bool, len(have))
	for _, id := range have {
		known[id] = true
	}
	return known, nil
}
