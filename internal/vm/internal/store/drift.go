package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
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

// Known tells which of the ids have a row as virtual machine, volume, network or snapshot.
func (s *Store) Known(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	rows, err := s.pool.Query(ctx, `SELECT id FROM vms WHERE id = ANY ($1) UNION ALL SELECT id FROM volumes WHERE id = ANY ($1)
		UNION ALL SELECT id FROM vm_networks WHERE id = ANY ($1) UNION ALL SELECT id FROM vm_snapshots WHERE id = ANY ($1)`, ids)
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

// driftKey is what makes a finding the same from one audit to the next.
type driftKey struct {
	kind         vm.DriftKind
	object, node uuid.UUID
}

func keyOf(f vm.DriftFinding) driftKey { return driftKey{f.Kind, f.ObjectID, f.NodeID} }

// KeepDrift gives findings the time of their first sight, keeps them, and forgets what is over; what a silent node holds is not over. A machine that a
// finding is about is told of its begin and its end, once each. It answers what is new.
func (s *Store) KeepDrift(ctx context.Context, findings []vm.DriftFinding, silent []uuid.UUID, at time.Time) (fresh []vm.DriftFinding, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		fresh = nil
		known, err := driftFindings(ctx, tx)
		if err != nil {
			return err
		}
		over := map[driftKey]vm.DriftFinding{}
		for _, f := range known {
			over[keyOf(f)] = f
		}
		for i := range findings {
			f := &findings[i]
			if had, ok := over[keyOf(*f)]; ok {
				f.Since = had.Since
				delete(over, keyOf(*f))
				continue
			}
			f.Since = at
			fresh = append(fresh, *f)
			if _, err := tx.Exec(ctx, `INSERT INTO drift_findings (kind, object_id, node_id, expected, seen, proposal, since) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
				f.Kind, f.ObjectID, f.NodeID, f.Expected, f.Seen, f.Proposal, f.Since); err != nil {
				return err
			}
			if err := s.tellDrift(ctx, tx, *f, true); err != nil {
				return err
			}
		}
		for _, f := range known { // in their order, where over has none
			if _, ok := over[keyOf(f)]; !ok || slices.Contains(silent, f.NodeID) {
				continue
			}
			if _, err := tx.Exec(ctx, `DELETE FROM drift_findings WHERE kind = $1 AND object_id = $2 AND node_id = $3`, f.Kind, f.ObjectID, f.NodeID); err != nil {
				return err
			}
			if err := s.tellDrift(ctx, tx, f, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("keep what was found of drift: %w", pg.Map(err))
	}
	return fresh, nil
}

// tellDrift tells of a finding that came or went, where it is about a machine that there is.
func (s *Store) tellDrift(ctx context.Context, tx pgx.Tx, f vm.DriftFinding, found bool) error {
	row, err := s.q.VMGet(ctx, tx, f.ObjectID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := recordOf(row)
	if err != nil {
		return err
	}
	// What it shows has changed, and so has its ETag.
	if _, err := tx.Exec(ctx, `UPDATE vms SET updated_at = now() WHERE id = $1`, f.ObjectID); err != nil {
		return err
	}
	kind := "drifted"
	if !found {
		kind = "drift_ended"
	}
	return writeEvent(ctx, tx, r.VM, kind, map[string]any{"drift": f.Kind, "expected": f.Expected, "seen": f.Seen})
}

// DriftFindings lists what the last audit found, in the order of their first sight.
func (s *Store) DriftFindings(ctx context.Context) ([]vm.DriftFinding, error) {
	list, err := driftFindings(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("read what was found of drift: %w", pg.Map(err))
	}
	return list, nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func driftFindings(ctx context.Context, db querier) ([]vm.DriftFinding, error) {
	rows, err := db.Query(ctx, `SELECT kind, object_id, node_id, expected, seen, proposal, since FROM drift_findings ORDER BY since, object_id, kind`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f vm.DriftFinding, err error) {
		err = row.Scan(&f.Kind, &f.ObjectID, &f.NodeID, &f.Expected, &f.Seen, &f.Proposal, &f.Since)
		return f, err
	})
}
