package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Intent is what a request makes of a virtual machine.
type Intent struct {
	Kind    string // of the operation
	Desired vm.Desired
	Input   any
	// Done says that the virtual machine is as wanted already: the operation is written as one that has succeeded.
	Done bool
	// Join answers with the live operation, which does what is asked already.
	Join bool
	// TargetID is of the operation, where that is about a part of the virtual machine; zero stands for the virtual machine.
	TargetID uuid.UUID
	// Then writes what belongs to the intent beside the virtual machine's own row, in the same transaction. It may be nil.
	Then Then
}

// Then is what an intent writes beside the row of its virtual machine. The store makes them.
type Then func(ctx context.Context, tx pgx.Tx, r Record, op operation.Operation) error

// Begin locks a virtual machine, lets decide look at it, and begins the operation that decide chose. An operation that is still
// at work is superseded: newer intent wins. decide gets the live operation, or nil, and may refuse with an error.
func (s *Store) Begin(ctx context.Context, id, requestedBy uuid.UUID, idempotencyKey string,
	decide func(r Record, live *operation.Operation) (Intent, error),
) (operation.Operation, error) {
	var begun operation.Operation
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		r, err := s.lockRecord(ctx, tx, id)
		if err != nil {
			return err
		}
		live, err := s.liveOperation(ctx, r)
		if err != nil {
			return err
		}
		intent, err := decide(r, live)
		if err != nil {
			return err
		}
		begun, err = s.begin(ctx, tx, r, live, requestedBy, idempotencyKey, intent)
		return err
	})
	return begun, err
}

func (s *Store) begin(ctx context.Context, tx pgx.Tx, r Record, live *operation.Operation, requestedBy uuid.UUID, key string, intent Intent) (operation.Operation, error) {
	if intent.Then == nil {
		intent.Then = func(context.Context, pgx.Tx, Record, operation.Operation) error { return nil }
	}
	if intent.Join {
		return *live, intent.Then(ctx, tx, r, *live)
	}
	opID, err := uuid.NewV7()
	if err != nil {
		return operation.Operation{}, fmt.Errorf("make operation id: %w", err)
	}
	target := r.ID
	if intent.TargetID != uuid.Nil {
		target = intent.TargetID
	}
	n := operation.New{ID: opID, Kind: intent.Kind, TargetID: target, TenantID: r.TenantID, RequestedBy: requestedBy,
		Generation: r.Generation + 1, Input: intent.Input, IdempotencyKey: key}
	if intent.Done {
		n.Generation = r.Generation
		return s.ops.CreateEnded(ctx, tx, n)
	}
	if live != nil {
		if err := s.ops.Supersede(ctx, tx, live.ID); err != nil {
			return operation.Operation{}, fmt.Errorf("supersede operation %s: %w", live.ID, err)
		}
	}
	if err := s.q.VMBeginIntent(ctx, tx, vmdb.VMBeginIntentParams{ID: r.ID, Generation: n.Generation, OperationID: &opID,
		DesiredState: string(intent.Desired)}); err != nil {
		return operation.Operation{}, err
	}
	begun, err := s.ops.Create(ctx, tx, n)
	if err != nil {
		return operation.Operation{}, err
	}
	return begun, intent.Then(ctx, tx, r, begun)
}

// liveOperation reads the operation that holds the virtual machine, or nil where it has ended.
func (s *Store) liveOperation(ctx context.Context, r Record) (*operation.Operation, error) {
	if r.OperationID == nil {
		return nil, nil
	}
	op, err := s.ops.Get(ctx, *r.OperationID)
	if errors.Is(err, operation.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if op.EndedAt != nil {
		return nil, nil
	}
	return &op, nil
}

// EndVM is what the end of every operation on a virtual machine does to its row, in the transaction that ends the operation.
// A superseded operation changes nothing: the row belongs to the newer one.
func (s *Store) EndVM(ctx context.Context, tx pgx.Tx, op operation.Operation) error {
	return s.endVM(ctx, tx, op, op.TargetID)
}

func (s *Store) endVM(ctx context.Context, tx pgx.Tx, op operation.Operation, id uuid.UUID) error {
	row, err := s.q.VMGetForUpdate(ctx, tx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if row.OperationID == nil || *row.OperationID != op.ID || errors.Is(asError(op.Error), operation.ErrSuperseded) {
		return nil
	}
	r, err := recordOf(row)
	if err != nil {
		return err
	}
	succeeded := op.Status == operation.StatusSucceeded
	switch {
	case isCreation(op.Kind) && !succeeded:
		return s.removeRow(ctx, tx, r, "failed", op.Error)
	case op.Kind == KindDelete && succeeded:
		return s.removeRow(ctx, tx, r, "deleted", nil)
	}
	state, desired, failure := stateOf(r.Observed.State), r.DesiredState, []byte(nil)
	if !succeeded {
		desired = desiredOf(state)
		if ofHost(r.Observed.Reason) {
			desired = r.DesiredState
		}
		failure = errs.Encode(op.Error)
		if err := errors.Join(s.q.VMDropRebuild(ctx, tx, r.ID), s.q.VMDropRescue(ctx, tx, r.ID)); err != nil {
			return err
		}
		if op.Kind == KindUpdate {
			if err := s.takeBack(ctx, tx, row, op); err != nil {
				return err
			}
		}
	} else if state == vm.StateError {
		failure = errs.Encode(vm.ErrVanished)
	}
	// A resize that ended, either way, has made guest and row one; so has what succeeded after one that was overtaken.
	resizing := r.Resizing && !succeeded && op.Kind != KindResize
	if err := s.q.VMEndIntent(ctx, tx, vmdb.VMEndIntentParams{ID: r.ID, DesiredState: string(desired), State: vmdb.VmStateEnum(state), Error: failure,
		Resizing: resizing}); err != nil {
		return err
	}
	if isCreation(op.Kind) {
		if err := writeEvent(ctx, tx, r.VM, "created", map[string]any{"operation_id": op.ID.String()}); err != nil {
			return err
		}
	}
	if !succeeded {
		return writeEvent(ctx, tx, r.VM, "failed", map[string]any{"operation_id": op.ID.String(), "code": op.Error.Code})
	}
	if state != r.State {
		return writeEvent(ctx, tx, r.VM, eventType(r.State, state), map[string]any{"from": r.State, "to": state, "operation_id": op.ID.String()})
	}
	return nil
}

func (s *Store) removeRow(ctx context.Context, tx pgx.Tx, r Record, kind string, failure *errs.Error) error {
	metadata := map[string]any{}
	if failure != nil {
		metadata["code"] = failure.Code
	}
	parts, err := s.tellOfGoing(ctx, tx, r.ID)
	if err != nil {
		return err
	}
	if err := s.q.VMDelete(ctx, tx, r.ID); err != nil {
		return err
	}
	if err := parts(); err != nil {
		return err
	}
	return writeEvent(ctx, tx, r.VM, kind, metadata)
}

// The kinds of the operations on virtual machines.
const (
	KindCreate   = "vm.create"
	KindStart    = "vm.start"
	KindStop     = "vm.stop"
	KindRestart  = "vm.restart"
	KindReset    = "vm.reset"
	KindPause    = "vm.pause"
	KindResume   = "vm.resume"
	KindDelete   = "vm.delete"
	KindSuspend  = "vm.suspend"
	KindResize   = "vm.resize"
	KindUpdate   = "vm.update"
	KindClone    = "vm.clone"
	KindRebuild  = "vm.rebuild"
	KindRescue   = "vm.rescue"
	KindUnrescue = "vm.unrescue"
)

// isCreation tells whether a virtual machine is made by operations of a kind.
func isCreation(kind string) bool { return kind == KindCreate || kind == KindClone }

func asError(e *errs.Error) error {
	if e == nil {
		return nil
	}
	return e
}
