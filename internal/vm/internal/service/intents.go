package service

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// Request asks for a change of one virtual machine's state.
type Request struct {
	VMID           uuid.UUID
	IdempotencyKey string
	Force          bool             // stop, restart: power off at once
	DeleteVolumes  bool             // delete: the attached volumes too, which are only detached otherwise
	IfMatch        func(vm.VM) bool // delete: whether it is the version that the caller has read; nil: any
	Grace          *time.Duration   // stop, restart: how long the guest may take; nil: the configured time
}

// grace is how long the guest gets to shut down.
func (s *Service) grace(req Request) time.Duration {
	switch {
	case req.Force:
		return 0
	case req.Grace != nil:
		return *req.Grace
	default:
		return s.cfg.StopGrace
	}
}

type decision func(r store.Record, live *operation.Operation) (store.Intent, error)

// begin checks that the caller may do it to the virtual machine and begins what decide makes of it.
func (s *Service) begin(ctx context.Context, req Request, kind, permission string, decide decision) (operation.Operation, error) {
	p := caller(ctx)
	if req.IdempotencyKey != "" {
		if op, ok, err := s.ops.FindByIdempotencyKey(ctx, p.UserID, kind, req.IdempotencyKey); err != nil || ok {
			return op, err
		}
	}
	op, err := s.store.Begin(ctx, req.VMID, p.UserID, req.IdempotencyKey, func(r store.Record, live *operation.Operation) (store.Intent, error) {
		if err := permitted(ctx, r.TenantID, r.OwnerID, permission, "vm:read", vm.ErrNotFound); err != nil {
			return store.Intent{}, err
		}
		if live != nil && live.Kind == store.KindDelete {
			if kind == store.KindDelete {
				intent, err := decide(r, live)
				intent.Join = true
				return intent, err
			}
			return store.Intent{}, vm.ErrWrongState.WithMessage("the virtual machine is being deleted").WithMeta("operation_id", live.ID.String())
		}
		if may := finishedBy(live); may != nil && !slices.Contains(may, kind) {
			return store.Intent{}, vm.ErrLocked.WithMeta("operation_id", live.ID.String())
		}
		return decide(r, live)
	})
	if err == nil {
		s.RenewStatus(ctx, req.VMID)
	}
	return op, err
}

// finishedBy lists the kinds that may overtake a rebuild, or the begin or end of a rescue: they finish it, or leave nothing to finish. It is nil for what
// any kind may try to overtake.
func finishedBy(live *operation.Operation) []string {
	switch {
	case live == nil:
		return nil
	case live.Kind == store.KindRebuild:
		return []string{store.KindStart, store.KindStop, store.KindRestart, store.KindRebuild, store.KindDelete}
	case live.Kind == store.KindRescue || live.Kind == store.KindUnrescue:
		return []string{store.KindStart, store.KindStop, store.KindRestart, store.KindRescue, store.KindUnrescue, store.KindDelete}
	}
	return nil
}

func wrongState(r store.Record, verb, needs string) error {
	return vm.ErrWrongState.WithMessage("a virtual machine that is %s cannot be %s", r.State, verb).
		WithMeta("state", string(r.State)).WithAction("It must be " + needs + " for that.")
}

// Start powers a virtual machine on.
func (s *Service) Start(ctx context.Context, req Request) (operation.Operation, error) {
	return s.begin(ctx, req, store.KindStart, "vm:start", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		intent := store.Intent{Kind: store.KindStart, Desired: vm.DesiredRunning}
		switch {
		case live == nil && r.State == vm.StateRunning:
			intent.Done = true
		case live == nil && r.State == vm.StatePaused:
			return intent, wrongState(r, "started", "stopped; a paused one is resumed")
		case live != nil && (live.Kind == store.KindStop || live.Kind == store.KindRestart):
			// The guest may have been told to shut down already, and would do so after it was found running. So the stop is
			// finished first.
			intent.Input = startInput{StopFirst: true, Grace: s.grace(req)}
			return intent, nil
		}
		intent.Input = startInput{}
		return intent, nil
	})
}

// Stop shuts a virtual machine down: the power button first, and the plug after the grace time.
func (s *Service) Stop(ctx context.Context, req Request) (operation.Operation, error) {
	return s.begin(ctx, req, store.KindStop, "vm:stop", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		return store.Intent{Kind: store.KindStop, Desired: vm.DesiredStopped, Input: stopInput{Grace: s.grace(req), Discard: req.Force},
			Done: live == nil && r.State == vm.StateStopped && !(req.Force && r.Suspended)}, nil
	})
}

// Restart shuts a virtual machine down and powers it on again.
func (s *Service) Restart(ctx context.Context, req Request) (operation.Operation, error) {
	return s.begin(ctx, req, store.KindRestart, "vm:restart", func(r store.Record, _ *operation.Operation) (store.Intent, error) {
		if r.State != vm.StateRunning && r.State != vm.StatePaused {
			return store.Intent{}, wrongState(r, "restarted", "running or paused")
		}
		return store.Intent{Kind: store.KindRestart, Desired: vm.DesiredRunning, Input: stopInput{Grace: s.grace(req)}}, nil
	})
}

// Reset presses the reset button: the guest gets no notice.
func (s *Service) Reset(ctx context.Context, req Request) (operation.Operation, error) {
	return s.begin(ctx, req, store.KindReset, "vm:restart", func(r store.Record, _ *operation.Operation) (store.Intent, error) {
		if r.State != vm.StateRunning {
			return store.Intent{}, wrongState(r, "reset", "running")
		}
		return store.Intent{Kind: store.KindReset, Desired: vm.DesiredRunning}, nil
	})
}

// Pause holds the virtual CPUs; memory stays.
func (s *Service) Pause(ctx context.Context, req Request) (operation.Operation, error) {
	return s.begin(ctx, req, store.KindPause, "vm:pause", func(r store.Record, _ *operation.Operation) (store.Intent, error) {
		if r.State != vm.StateRunning {
			return store.Intent{}, wrongState(r, "paused", "running")
		}
		return store.Intent{Kind: store.KindPause, Desired: vm.DesiredPaused}, nil
	})
}

// Resume lets the virtual CPUs go on.
func (s *Service) Resume(ctx context.Context, req Request) (operation.Operation, error) {
	return s.begin(ctx, req, store.KindResume, "vm:pause", func(r store.Record, _ *operation.Operation) (store.Intent, error) {
		if r.State != vm.StatePaused {
			return store.Intent{}, wrongState(r, "resumed", "paused")
		}
		return store.Intent{Kind: store.KindResume, Desired: vm.DesiredRunning}, nil
	})
}

// Delete removes a virtual machine with its disks; volumes that are attached are detached. It is accepted in every state.
func (s *Service) Delete(ctx context.Context, req Request) (operation.Operation, error) {
	if req.DeleteVolumes {
		if _, err := s.recordTo(ctx, req.VMID, "vm:delete"); err != nil {
			return operation.Operation{}, err
		}
		volumes, err := s.store.VolumesOf(ctx, req.VMID)
		if err != nil {
			return operation.Operation{}, err
		}
		for _, v := range volumes {
			if err := mayVolume(ctx, v, "volume:delete"); err != nil {
				return operation.Operation{}, err
			}
		}
	}
	return s.begin(ctx, req, store.KindDelete, "vm:delete", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		if req.IfMatch != nil && !req.IfMatch(r.VM) {
			return store.Intent{}, vm.ErrVersion
		}
		if r.DeleteProtection && (live == nil || live.Kind != store.KindDelete) {
			return store.Intent{}, vm.ErrProtected
		}
		intent := store.Intent{Kind: store.KindDelete, Desired: vm.DesiredDeleted}
		if req.DeleteVolumes {
			intent.Then = s.store.DeletingVolumes()
		}
		return intent, nil
	})
}

// atHand refuses a virtual machine whose memory is saved to disk, and one that was never finished: neither can be worked on as it is.
func atHand(r store.Record) error {
	switch {
	case r.Suspended:
		return vm.ErrWrongState.WithMessage("the virtual machine is suspended to disk").
			WithAction("Start it, or force it to stop, which throws the saved memory away.")
	case !r.Provisioned:
		return unfinished()
	default:
		return nil
	}
}

func unfinished() error {
	return vm.ErrWrongState.WithMessage("the virtual machine was never finished").WithAction("Start it, which finishes it, or delete it.")
}
