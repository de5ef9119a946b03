package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Rebuild is what the root disk of a virtual machine is to be made from anew.
type Rebuild struct {
	ImageID  uuid.UUID `json:"image_id"`
	UserData string    `json:"user_data"`
	SSHKeys  []string  `json:"ssh_keys"`
	// Begun says that the disk may have been replaced already, so that there is no way back.
	Begun bool `json:"begun"`
}

// Rebuilding writes what a rebuild is to do, unless a snapshot holds the disk.
func (s *Store) Rebuilding(b Rebuild) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, _ operation.Operation) error {
		snapshots, err := s.q.SnapshotListAll(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		if len(snapshots) > 0 {
			return vm.ErrRebuildSnapshots.WithMessage("the snapshot %q holds the disk", snapshots[0].Name).WithMeta("snapshot_id", snapshots[0].ID.String())
		}
		b.Begun = r.Rebuild != nil && r.Rebuild.Begun
		err = s.q.VMSetRebuild(ctx, tx, vmdb.VMSetRebuildParams{ID: r.ID, Rebuild: mustJSON(b), RebuildImageID: &b.ImageID})
		return vmViolation(err)
	}
}

// BeginRebuild notes, before it is tried, that the disk may be replaced from now on.
func (s *Store) BeginRebuild(ctx context.Context, id uuid.UUID, generation int64) error {
	rows, err := s.q.VMBeginRebuild(ctx, s.pool, vmdb.VMBeginRebuildParams{ID: id, Generation: generation})
	return overtaken(rows, err)
}

// EndRebuild notes that the disk was replaced.
func (s *Store) EndRebuild(ctx context.Context, r Record) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := s.q.VMEndRebuild(ctx, tx, vmdb.VMEndRebuildParams{ID: r.ID, Generation: r.Generation, UserData: r.Rebuild.UserData,
			SshKeys: mustJSON(r.Rebuild.SSHKeys)})
		if err := overtaken(rows, err); err != nil {
			return err
		}
		return writeEvent(ctx, tx, r.VM, "updated", map[string]any{"change": KindRebuild, "image_id": r.Rebuild.ImageID.String()})
	})
}

func overtaken(rows int64, err error) error {
	if err == nil && rows == 0 {
		return operation.ErrSuperseded
	}
	return pg.Map(err)
}
