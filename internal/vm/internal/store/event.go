package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// stateOf derives what the outside sees from what a node saw.
func stateOf(observed nodeapi.Observed) vm.State {
	switch observed {
	case nodeapi.ObservedRunning:
		return vm.StateRunning
	case nodeapi.ObservedPaused:
		return vm.StatePaused
	case nodeapi.ObservedStopped:
		return vm.StateStopped
	default: // absent or crashed
		return vm.StateError
	}
}

// desiredOf is what a tenant can be taken to want when the guest or an administrator of the node changed the state by hand.
func desiredOf(state vm.State) vm.Desired {
	switch state {
	case vm.StateRunning:
		return vm.DesiredRunning
	case vm.StatePaused:
		return vm.DesiredPaused
	default:
		return vm.DesiredStopped
	}
}

// eventType names a change of state for vm.events.
func eventType(from, to vm.State) string {
	switch {
	case to == vm.StateRunning && from == vm.StatePaused:
		return "resumed"
	case to == vm.StateRunning:
		return "started"
	case to == vm.StateStopped:
		return "stopped"
	case to == vm.StatePaused:
		return "paused"
	case to == vm.StateError:
		return "failed"
	default:
		return "updated"
	}
}

// writeEvent tells of a change, in the transaction that makes it.
func writeEvent(ctx context.Context, tx pgx.Tx, r vm.VM, kind string, metadata map[string]any) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make event id: %w", err)
	}
	if metadata == nil {
		metadata = map[string]any{}
	}
	if err := writeHistory(ctx, tx, id, r, kind, metadata); err != nil {
		return err
	}
	metadata["name"] = r.Name
	metadata["generation"] = r.Generation
	if r.NodeID != nil {
		metadata["node_id"] = r.NodeID.String()
	}
	e := event.VM{ID: id, Type: kind, VMID: r.ID, TenantID: r.TenantID, Timestamp: time.Now().UTC(), Metadata: metadata}
	if err := outbox.Write(ctx, tx, bus.SubjectVMEvents, id, e); err != nil {
		return fmt.Errorf("write event %s of virtual machine %s: %w", kind, r.ID, err)
	}
	return nil
}
