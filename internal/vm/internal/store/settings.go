package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Edited is what a request makes of what can be edited.
type Edited struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Tags        map[string]string `json:"tags"`
	Settings    vm.Settings       `json:"settings"`
}

// EditedOf gives what a virtual machine has now.
func EditedOf(m vm.VM) Edited {
	return Edited{Name: m.Name, Description: m.Description, Tags: m.Tags, Settings: m.Settings}
}

// UpdateInput is the input of operations of KindUpdate.
type UpdateInput struct {
	Before Edited `json:"before"`
	After  Edited `json:"after"`
}

func (s *Store) setEdited(ctx context.Context, tx pgx.Tx, id uuid.UUID, e Edited) error {
	return vmViolation(s.q.VMSetSettings(ctx, tx, vmdb.VMSetSettingsParams{ID: id, Name: e.Name, Description: e.Description,
		Tags: mustJSON(e.Tags), Settings: mustJSON(e.Settings)}))
}

// Editing writes what a virtual machine is to be, with the intent that makes its node follow.
func (s *Store) Editing(e Edited) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, _ operation.Operation) error {
		if err := s.setEdited(ctx, tx, r.ID, e); err != nil {
			return err
		}
		r.Name = e.Name
		return writeEvent(ctx, tx, r.VM, "updated", map[string]any{"description": e.Description, "tags": e.Tags})
	}
}

// Edit writes what no node need know of, in one transaction with the look at the virtual machine.
func (s *Store) Edit(ctx context.Context, id uuid.UUID, decide func(r Record, live *operation.Operation) (Edited, error)) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		r, err := s.lockRecord(ctx, tx, id)
		if err != nil {
			return err
		}
		live, err := s.liveOperation(ctx, r)
		if err != nil {
			return err
		}
		e, err := decide(r, live)
		if err != nil {
			return err
		}
		return s.Editing(e)(ctx, tx, r, operation.Operation{})
	})
}

// takeBack undoes an edit that the node refused.
func (s *Store) takeBack(ctx context.Context, tx pgx.Tx, row vmdb.Vm, op operation.Operation) error {
	var in UpdateInput
	var raw []byte
	if err := tx.QueryRow(ctx, "SELECT input FROM operations WHERE id = $1", op.ID).Scan(&raw); err != nil {
		return fmt.Errorf("read the edit to take back: %w", err)
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("read the edit to take back: %w", err)
	}
	if in.Before.Name == row.Name {
		return s.setEdited(ctx, tx, row.ID, in.Before)
	}
	// The old name may have been taken meanwhile; then the new one stays.
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return s.setEdited(ctx, tx, row.ID, in.Before) })
	if errors.Is(err, vm.ErrNameTaken) {
		in.Before.Name = row.Name
		return s.setEdited(ctx, tx, row.ID, in.Before)
	}
	return err
}

// Resizing notes that a resize has begun.
func (s *Store) Resizing() Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, _ operation.Operation) error {
		return s.q.VMSetResizing(ctx, tx, r.ID)
	}
}

// SetResources writes how large a virtual machine is and the flavor that says so, unless a newer generation has taken over.
func (s *Store) SetResources(ctx context.Context, id uuid.UUID, generation int64, r vm.Resources, flavor string) error {
	_, err := s.q.VMSetResources(ctx, s.pool, vmdb.VMSetResourcesParams{ID: id, Generation: generation, ResourceConfig: mustJSON(r), Flavor: flavor})
	return pg.Map(err)
}

// SetPending writes what a guest takes up only at its next start, unless a newer generation has taken over.
func (s *Store) SetPending(ctx context.Context, id uuid.UUID, generation int64, pending []vm.Pending) error {
	_, err := s.q.VMSetPending(ctx, s.pool, vmdb.VMSetPendingParams{ID: id, Generation: generation, Pending: mustJSON(pending)})
	return pg.Map(err)
}

// VMsToBoot lists the virtual machines that are off because their host was restarted, and wanted.
func (s *Store) VMsToBoot(ctx context.Context) ([]Record, error) {
	rows, err := s.q.VMListToBoot(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("list virtual machines to boot: %w", pg.Map(err))
	}
	return recordsOf(rows)
}
