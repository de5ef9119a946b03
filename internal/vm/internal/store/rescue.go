package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// RescuePhase is how far a rescue is.
type RescuePhase string

// The phases of a rescue.
const (
	RescueWanted  RescuePhase = "wanted"  // nothing of it is on the node
	RescueBegun   RescuePhase = "begun"   // its disk may be there, and an older one may be in the definition
	RescueOn      RescuePhase = "on"      // its disk is there, and the machine boots from it
	RescueLeaving RescuePhase = "leaving" // all of it has to go
)

// Rescue is what a virtual machine boots from instead of its own system.
type Rescue struct {
	ImageID uuid.UUID     `json:"image_id"`
	Phase   RescuePhase   `json:"phase"`
	Since   *time.Time    `json:"since,omitempty"` // nil: it has not booted from it yet
	Grace   time.Duration `json:"grace_ns"`        // that the guest has to shut down, when the rescue begins or ends
	// SizeBytes is how large its disk is, which the machine's place has room for beside its own.
	SizeBytes int64 `json:"size_bytes"`
}

// Booked is how much the disk of a rescue takes of the machine's place.
func (r *Rescue) Booked() int64 {
	if r == nil {
		return 0
	}
	return r.SizeBytes
}

// Rescuing writes what a virtual machine is to boot from.
func (s *Store) Rescuing(to Rescue) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, _ operation.Operation) error {
		to.Phase = RescueWanted
		if before := r.Rescuing; before != nil && before.Phase != RescueWanted {
			to.Phase, to.SizeBytes = RescueBegun, before.SizeBytes
		}
		return s.setRescue(ctx, tx, r.ID, to)
	}
}

// Leaving writes that a rescue is to end.
func (s *Store) Leaving(grace time.Duration) Then {
	return func(ctx context.Context, tx pgx.Tx, r Record, _ operation.Operation) error {
		to := *r.Rescuing
		to.Phase, to.Grace = RescueLeaving, grace
		return s.setRescue(ctx, tx, r.ID, to)
	}
}

func (s *Store) setRescue(ctx context.Context, tx pgx.Tx, id uuid.UUID, to Rescue) error {
	return vmViolation(s.q.VMSetRescue(ctx, tx, vmdb.VMSetRescueParams{ID: id, Rescue: mustJSON(to), RescueImageID: &to.ImageID}))
}

// BeginRescue notes, before it is tried, that the disk of the rescue may be made from now on.
func (s *Store) BeginRescue(ctx context.Context, r Record, size int64) error {
	to := *r.Rescuing
	to.Phase, to.Since, to.SizeBytes = RescueBegun, nil, size
	rows, err := s.q.VMMoveRescue(ctx, s.pool, vmdb.VMMoveRescueParams{ID: r.ID, Generation: r.Generation, Rescue: mustJSON(to)})
	return overtaken(rows, err)
}

// EnterRescue notes that the disk of the rescue is there, and that the machine boots from it.
func (s *Store) EnterRescue(ctx context.Context, r Record, size int64) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	to := *r.Rescuing
	to.Phase, to.Since, to.SizeBytes = RescueOn, &now, size
	return s.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := s.q.VMMoveRescue(ctx, tx, vmdb.VMMoveRescueParams{ID: r.ID, Generation: r.Generation, Rescue: mustJSON(to)})
		if err := overtaken(rows, err); err != nil {
			return err
		}
		return writeEvent(ctx, tx, r.VM, "updated", map[string]any{"change": KindRescue, "image_id": to.ImageID.String()})
	})
}

// EndRescue notes that nothing is left of the rescue.
func (s *Store) EndRescue(ctx context.Context, r Record) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := s.q.VMEndRescue(ctx, tx, vmdb.VMEndRescueParams{ID: r.ID, Generation: r.Generation})
		if err := overtaken(rows, err); err != nil {
			return err
		}
		return writeEvent(ctx, tx, r.VM, "updated", map[string]any{"change": KindUnrescue})
	})
}
