package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Observe writes what a node saw of one virtual machine, with the event that tells of it. What is older than what is known is
// passed over. It answers false where there is no such virtual machine, or it does not belong to this node.
func (s *Store) Observe(ctx context.Context, node uuid.UUID, epoch int64, status nodeapi.Status) (known bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		known = false
		row, err := s.q.VMGetForUpdate(ctx, tx, status.VMID)
		if err := mapNoRows(err, vm.ErrNotFound); err != nil {
			if vm.ErrNotFound.Is(err) {
				return nil
			}
			return err
		}
		r, err := recordOf(row)
		if err != nil {
			return err
		}
		if r.NodeID == nil || *r.NodeID != node {
			return nil
		}
		known = true
		return s.observe(ctx, tx, r, epoch, status)
	})
	if err != nil {
		return false, fmt.Errorf("note observed state of virtual machine %s: %w", status.VMID, err)
	}
	return known, nil
}

func (s *Store) observe(ctx context.Context, tx pgx.Tx, r Record, epoch int64, status nodeapi.Status) error {
	seen := r.Observed
	if epoch != 0 && epoch < seen.Epoch {
		return nil // a report of a node role that has been replaced
	}
	// Answers to commands carry no epoch: until the first report there is none to compare with, but the clock is the same node's.
	if (epoch == 0 || seen.Epoch == 0 || epoch == seen.Epoch) && seen.At != nil && status.At.Before(*seen.At) {
		if status.Observed != seen.State || anotherBoot(seen, status) {
			return nil
		}
		// The same state, told by an answer and by a report whose times differ: what is new in it, such as addresses, still counts.
		status.At, status.Reason = *seen.At, seen.Reason
	}
	epoch = max(epoch, seen.Epoch) // answers to commands carry no epoch
	addressed := mergeAddresses(r.Networks, status)
	state, desired := r.State, r.DesiredState
	creating := r.OperationID != nil && r.State == vm.StateCreating
	if !creating && r.DesiredState != vm.DesiredDeleted { // what is being removed keeps the state that it had
		state = stateOf(status.Observed)
	}
	if status.Observed == nodeapi.ObservedStopped && seen.State == status.Observed && ofHost(seen.Reason) && !ofHost(status.Reason) {
		status.Reason = seen.Reason // an answer to a command does not know of it
	}
	pending := r.Pending
	on := status.Observed == nodeapi.ObservedRunning || status.Observed == nodeapi.ObservedPaused
	boot, ready := status.Boot, r.ReadyAt
	if on && boot == "" {
		boot = seen.Boot
	}
	if !on || anotherBoot(seen, status) { // what it told before does not count, also where nobody saw it off
		ready = nil
	}
	becomesReady := on && status.ReadyAt != nil && ready == nil
	if becomesReady {
		ready = status.ReadyAt
	}
	if !on && !status.Saved || on && anotherBoot(seen, status) && !r.Suspended {
		pending = []vm.Pending{} // the next start takes everything up, or one that nobody saw has; what goes on from saved memory takes up nothing
	}
	if status.Observed == seen.State && status.Reason == seen.Reason && state == r.State && !addressed && epoch == seen.Epoch &&
		status.Saved == r.Suspended && len(pending) == len(r.Pending) && !becomesReady && (ready == nil) == (r.ReadyAt == nil) && boot == seen.Boot {
		return nil
	}
	// Nobody asked for the change through NovaCron: the guest powered itself off, or someone used virsh. That is now what is wanted,
	// except after a crash, which nobody wants.
	if r.OperationID == nil && state != r.State && state != vm.StateError && status.Reason != "crashed" && status.Reason != "failed" && !ofHost(status.Reason) {
		desired = desiredOf(state)
	}
	failure := []byte(nil)
	if state == vm.StateError {
		failure = errs.Encode(vm.ErrVanished)
	} else if r.State != vm.StateError {
		failure = r.failure // keep why the last operation failed until the next one
	}
	err := s.q.VMSetObserved(ctx, tx, vmdb.VMSetObservedParams{
		ID: r.ID, ObservedState: string(status.Observed), ObservedReason: status.Reason, ObservedNode: r.NodeID, ObservedEpoch: epoch,
		ObservedAt: &status.At, State: vmdb.VmStateEnum(state), NetworkConfig: mustJSON(r.Networks), Error: failure,
		DesiredState: string(desired), Suspended: status.Saved, Pending: mustJSON(pending), ReadyAt: ready,
		ObservedBoot: boot,
	})
	if err != nil {
		return err
	}
	switch {
	case state != r.State:
		err = writeEvent(ctx, tx, r.VM, eventType(r.State, state), map[string]any{"from": r.State, "to": state, "reason": status.Reason})
	case addressed:
		err = writeEvent(ctx, tx, r.VM, "updated", map[string]any{"networks": r.Networks})
	}
	if err == nil && becomesReady {
		err = writeEvent(ctx, tx, r.VM, "ready", map[string]any{"ready_at": ready})
	}
	return err
}

// anotherBoot tells whether a status is of another time that a guest was powered on than the one that was seen last.
func anotherBoot(seen Observation, status nodeapi.Status) bool {
	return seen.Boot != "" && status.Boot != "" && seen.Boot != status.Boot
}

// ofHost tells whether a virtual machine is off because its host was to be. It is still wanted then.
func ofHost(reason string) bool {
	return reason == nodeapi.ReasonHostShutdown || reason == nodeapi.ReasonHostReboot
}

// mergeAddresses puts the addresses of a status into the interfaces and tells whether that changed any. A guest that is not running
// keeps none.
func mergeAddresses(nics []vm.Interface, status nodeapi.Status) bool {
	changed := false
	for i := range nics {
		addresses := []string{}
		for _, a := range status.Addresses {
			if a.MAC == nics[i].MAC && !slices.Contains(addresses, a.IP) {
				addresses = append(addresses, a.IP)
			}
		}
		active := status.Observed == nodeapi.ObservedRunning || status.Observed == nodeapi.ObservedPaused
		if active && len(addresses) == 0 {
			continue // not known yet, or an answer that did not look
		}
		slices.Sort(addresses)
		if !slices.Equal(addresses, nics[i].Addresses) {
			nics[i].Addresses = addresses
			changed = true
		}
	}
	return changed
}
