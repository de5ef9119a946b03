package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// boots brings virtual machines back that are off because their host was restarted: those that were to run, in their order, one after the
// other on each node. All that it must not forget is in the rows; what is lost with the process is a delay at most.
type boots struct {
	mu    sync.Mutex // guards nodes
	nodes map[uuid.UUID]nodeBoot
}

// nodeBoot is how far a node is.
type nodeBoot struct {
	operation uuid.UUID     // that started the last one
	delay     time.Duration // to keep after its end
}

// Boot starts, on each node, the next virtual machine that is to come back. It is called again and again.
func (s *Service) Boot(ctx context.Context) error {
	records, err := s.store.VMsToBoot(ctx)
	if err != nil {
		return err
	}
	records = slices.DeleteFunc(records, func(r store.Record) bool { return !r.Autostart.Enabled || r.NodeID == nil })
	slices.SortFunc(records, func(a, b store.Record) int {
		return cmp.Or(cmp.Compare(a.Autostart.Order, b.Autostart.Order), cmp.Compare(a.Name, b.Name), slices.Compare(a.ID[:], b.ID[:]))
	})
	s.boots.mu.Lock()
	defer s.boots.mu.Unlock()
	if s.boots.nodes == nil {
		s.boots.nodes = map[uuid.UUID]nodeBoot{}
	}
	var failed error
	busy := map[uuid.UUID]bool{}
	for _, r := range records {
		if busy[*r.NodeID] {
			continue
		}
		busy[*r.NodeID] = true
		if ready, err := s.bootReady(ctx, *r.NodeID); err != nil || !ready {
			failed = errors.Join(failed, err)
			continue
		}
		op, err := s.store.Begin(ctx, r.ID, r.OwnerID, "", func(r store.Record, live *operation.Operation) (store.Intent, error) {
			if live != nil || r.DesiredState != vm.DesiredRunning {
				return store.Intent{}, vm.ErrLocked // somebody was faster
			}
			return store.Intent{Kind: store.KindStart, Desired: vm.DesiredRunning, Input: startInput{}}, nil
		})
		if err != nil {
			if !errors.Is(err, vm.ErrLocked) && !errors.Is(err, vm.ErrNotFound) {
				failed = errors.Join(failed, fmt.Errorf("start virtual machine %s after the restart of its host: %w", r.ID, err))
			}
			continue
		}
		s.log.InfoContext(ctx, "starting a virtual machine after the restart of its host", "vm_id", r.ID, "node_id", *r.NodeID, "order", r.Autostart.Order)
		s.boots.nodes[*r.NodeID] = nodeBoot{operation: op.ID, delay: time.Duration(r.Autostart.DelaySeconds) * time.Second}
	}
	return failed
}

// bootReady tells whether the one before has been started, and its delay is over.
func (s *Service) bootReady(ctx context.Context, node uuid.UUID) (bool, error) {
	last, ok := s.boots.nodes[node]
	if !ok {
		return true, nil
	}
	op, err := s.ops.Get(ctx, last.operation)
	switch {
	case errors.Is(err, operation.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	}
	return op.EndedAt != nil && time.Since(*op.EndedAt) >= last.delay, nil
}
