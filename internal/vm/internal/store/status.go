package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Statuses reads the statuses of virtual machines, whichever tenant they belong to. Those that are not there are left out.
func (s *Store) Statuses(ctx context.Context, ids []uuid.UUID) ([]vm.Status, error) {
	asOf := time.Now().UTC()
	rows, err := s.q.VMStatuses(ctx, s.pool, ids)
	if err != nil {
		return nil, fmt.Errorf("read statuses of virtual machines: %w", pg.Map(err))
	}
	statuses := make([]vm.Status, len(rows))
	for i, row := range rows {
		if statuses[i], err = statusOf(row); err != nil {
			return nil, err
		}
		statuses[i].AsOf = asOf
	}
	return statuses, nil
}

func statusOf(row vmdb.VMStatusesRow) (vm.Status, error) {
	status := vm.Status{ID: row.ID, Name: row.Name, State: vm.State(row.State), DesiredState: vm.Desired(row.DesiredState), Suspended: row.Suspended,
		OperationID: row.OperationID, NodeID: row.NodeID, TenantID: row.TenantID, OwnerID: row.OwnerID, Generation: row.Generation, Revision: row.Revision,
		ReadyAt: row.ReadyAt, Addresses: []string{}, Observed: vm.StatusObserved{Epoch: row.ObservedEpoch,
			Observed: vm.Observed{State: row.ObservedState, Reason: row.ObservedReason, NodeID: row.ObservedNode, At: row.ObservedAt}}}
	var interfaces []vm.Interface
	if err := json.Unmarshal(row.NetworkConfig, &interfaces); err != nil {
		return status, fmt.Errorf("read network_config of virtual machine %s: %w", row.ID, err)
	}
	for _, one := range interfaces {
		status.Addresses = append(status.Addresses, one.Addresses...)
	}
	if problem := problemOf(row.Error); problem != nil {
		status.ErrorCode = problem.Code
	}
	return status, nil
}

// ListenStatuses hands over the ids of virtual machines that have changed or are gone, as they are told, until ctx ends. broken is told where
// some may be missed.
func (s *Store) ListenStatuses(ctx context.Context, each func(uuid.UUID), broken func(error)) {
	pg.Listen(ctx, s.pool, "vm_status", func(payload string) {
		if id, err := uuid.Parse(payload); err == nil {
			each(id)
		}
	}, broken)
}
