package service

import (
	"context"
	"time"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// suspendTimeout is how long a guest's memory may take to be written; the node's own limit is no longer.
const suspendTimeout = time.Hour

// Suspend saves the memory of a virtual machine to disk and powers it off. Start goes on from there.
func (s *Service) Suspend(ctx context.Context, req Request) (operation.Operation, error) {
	return s.begin(ctx, req, store.KindSuspend, "vm:pause", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		if r.Rescuing != nil {
			return store.Intent{}, vm.ErrRescued
		}
		intent := store.Intent{Kind: store.KindSuspend, Desired: vm.DesiredStopped, Done: live == nil && r.Suspended}
		if !intent.Done && r.State != vm.StateRunning && r.State != vm.StatePaused {
			return store.Intent{}, wrongState(r, "suspended to disk", "running or paused")
		}
		return intent, nil
	})
}

func (s *Service) suspend(ctx context.Context, _ *operation.Run, r store.Record) error {
	_, err := s.command(ctx, r, nodeapi.VerbSuspend, nodeapi.Empty{}, suspendTimeout)
	return err
}
