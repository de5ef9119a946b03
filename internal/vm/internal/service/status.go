package service

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// MaxStatuses is how many statuses can be asked for at once.
const MaxStatuses = 200

// Status tells how a virtual machine is, at most a few seconds ago.
func (s *Service) Status(ctx context.Context, id uuid.UUID) (vm.Status, error) {
	list, err := s.Statuses(ctx, []uuid.UUID{id})
	if err != nil {
		return vm.Status{}, err
	}
	if len(list) == 0 {
		return vm.Status{}, vm.ErrNotFound
	}
	return list[0], nil
}

// Statuses is Status of at most MaxStatuses, in their order. Those that the caller may not know are left out, as those that are not there.
func (s *Service) Statuses(ctx context.Context, ids []uuid.UUID) ([]vm.Status, error) {
	found, err := s.statuses.Get(ctx, ids...)
	if err != nil {
		return nil, err
	}
	list := make([]vm.Status, 0, len(ids))
	for i, id := range ids {
		status, ok := found[id]
		if !ok || !readable(ctx, status.TenantID, status.OwnerID, "vm:read") || slices.Contains(ids[:i], id) {
			continue
		}
		status.Usage = s.usageOf(status)
		list = append(list, status)
	}
	return list, nil
}

// usageOf gives the headline of the latest sample that this process has heard of.
func (s *Service) usageOf(status vm.Status) *vm.StatusUsage {
	if status.State != vm.StateRunning && status.State != vm.StatePaused && status.State != vm.StateMigrating || status.NodeID == nil {
		return nil
	}
	sample, ok := s.measured.of(status.ID, *status.NodeID, time.Now())
	if !ok {
		return nil
	}
	return &vm.StatusUsage{CPUUsage: sample.CPUUsage, MemoryUsage: sample.MemoryUsage, Time: sample.Time}
}

// RenewStatus sees to it that who is about to be told of a change of an object finds it in its status, if it is a virtual machine.
func (s *Service) RenewStatus(ctx context.Context, id uuid.UUID) { s.statuses.Renew(ctx, id) }

// WatchStatuses renews what is kept of statuses as they change, until ctx ends.
func (s *Service) WatchStatuses(ctx context.Context) {
	s.store.ListenStatuses(ctx, func(id uuid.UUID) { s.statuses.Changed(id) }, func(err error) {
		s.log.WarnContext(ctx, "changes of statuses are not heard of; what is kept of them expires", "error", err)
	})
}
