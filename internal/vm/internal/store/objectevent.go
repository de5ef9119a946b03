package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// told is what an event of vm.objects is about.
type told struct {
	event.Ref
	tenant  uuid.UUID
	machine uuid.UUID // nil: none
}

func volumeTold(row vmdb.Volume) told {
	t := told{Ref: event.Ref{Kind: vm.KindVolume, ID: row.ID, Name: row.Name}, tenant: row.TenantID}
	if row.VmID != nil {
		t.machine = *row.VmID
	}
	return t
}

func snapshotTold(row vmdb.VmSnapshot) told {
	return told{Ref: event.Ref{Kind: vm.KindSnapshot, ID: row.ID, Name: row.Name}, tenant: row.TenantID, machine: row.VmID}
}

func imageTold(row vmdb.Image) told {
	return told{Ref: event.Ref{Kind: vm.KindImage, ID: row.ID, Name: row.Name}, tenant: row.TenantID}
}

func networkTold(row vmdb.VmNetwork) told {
	return told{Ref: event.Ref{Kind: vm.KindNetwork, ID: row.ID, Name: row.Name}, tenant: row.TenantID}
}

func groupTold(row vmdb.SecurityGroup) told {
	return told{Ref: event.Ref{Kind: vm.KindSecurityGroup, ID: row.ID, Name: row.Name}, tenant: row.TenantID}
}

func forwardTold(row vmdb.PortForward) told {
	return told{Ref: event.Ref{Kind: vm.KindPortForward, ID: row.ID, Name: row.Protocol + "/" + strconv.Itoa(int(row.HostPort))}, tenant: row.TenantID, machine: row.VmID}
}

// tell tells of a change of what is no machine, in the transaction that makes it.
func tell(ctx context.Context, tx pgx.Tx, about told, change string, metadata map[string]any) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make event id: %w", err)
	}
	if metadata == nil {
		metadata = map[string]any{}
	}
	e := event.Object{ID: id, Type: about.Kind + "." + change, Object: about.Ref, VMID: about.machine, TenantID: about.tenant, Timestamp: time.Now().UTC(), Metadata: metadata}
	if err := outbox.Write(ctx, tx, bus.SubjectVMObjects, id, e); err != nil {
		return fmt.Errorf("write event %s of %s: %w", e.Type, about.ID, err)
	}
	return nil
}

// tellRow tells of a change of a row that a query has just changed, unless there was none to change: then somebody else has told.
func tellRow[R any](ctx context.Context, tx pgx.Tx, row R, err error, of func(R) told, change string, metadata map[string]any) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return tell(ctx, tx, of(row), change, metadata)
}

// outcome is what every event that an operation ended with has in its metadata.
func outcome(op operation.Operation) map[string]any {
	m := map[string]any{"operation": op.Kind, "operation_id": op.ID.String()}
	if op.Error != nil {
		m["code"] = op.Error.Code
	}
	return m
}

// tellOfGoing tells what becomes of the things of a machine whose row is about to go: volumes stay and are free, all else goes with it. What
// is answered tells it, after the row has gone.
func (s *Store) tellOfGoing(ctx context.Context, tx pgx.Tx, id uuid.UUID) (func() error, error) {
	forwards, err := s.q.ForwardDeleteOf(ctx, tx, vmdb.ForwardDeleteOfParams{VmID: id})
	if err != nil {
		return nil, err
	}
	snapshots, err := s.q.SnapshotListAll(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	volumes, err := s.q.VolumeListByVMs(ctx, tx, []uuid.UUID{id})
	if err != nil {
		return nil, err
	}
	return func() error {
		var errs []error
		for _, row := range forwards {
			errs = append(errs, tell(ctx, tx, forwardTold(row), "deleted", nil))
		}
		for _, row := range snapshots {
			errs = append(errs, tell(ctx, tx, snapshotTold(row), "deleted", nil))
		}
		for _, row := range volumes {
			errs = append(errs, tell(ctx, tx, volumeTold(row), "detached", nil))
		}
		return errors.Join(errs...)
	}, nil
}
