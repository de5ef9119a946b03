package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// NoteVolumeUsage asks the nodes for their volumes and notes what these take.
func (s *Service) NoteVolumeUsage(ctx context.Context) error {
	nodes, err := s.placer.ListNodes(ctx, scheduler.ListNodesRequest{Limit: httpx.MaxLimit})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	var failed error
	for _, node := range nodes.Nodes {
		if node.State == scheduler.NodeReady {
			failed = errors.Join(failed, s.noteVolumesOf(ctx, node.ID))
		}
	}
	return failed
}

func (s *Service) noteVolumesOf(ctx context.Context, node uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	list, err := nodeapi.Do[nodeapi.VolumeList](ctx, s.nodes, nodeapi.Target{NodeID: node}, nodeapi.VerbListVolumes, nodeapi.Empty{})
	if err != nil {
		return err
	}
	ids := make([]uuid.UUID, len(list.Volumes))
	for i, v := range list.Volumes {
		ids[i] = v.ID
	}
	known, err := s.store.ExistingVolumes(ctx, ids)
	if err != nil {
		return err
	}
	for _, v := range list.Volumes {
		if !known[v.ID] {
			continue // the audit of drift sees to it
		}
		if err := s.store.SetVolumeUsage(ctx, v.ID, v.AllocatedBytes); err != nil {
			return err
		}
	}
	return nil
}

// SweepDeleted has volumes deleted that were to go with their virtual machine, by a request that came when the machine's own deletion was
// past that.
func (s *Service) SweepDeleted(ctx context.Context) error {
	volumes, err := s.store.UndeletedVolumes(ctx, httpx.MaxLimit)
	if err != nil {
		return err
	}
	var failed error
	for _, v := range volumes {
		op := operation.New{ID: newID(), Kind: store.KindVolumeDelete, RequestedBy: v.OwnerID, Input: volumeInput{}}
		_, err := s.store.BeginVolume(ctx, v.ID, op, true, func(vm.Volume) error { return nil })
		if err != nil && !errors.Is(err, vm.ErrVolumeNotFound) && !errors.Is(err, vm.ErrVolumeBusy) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// SweepStorage brings the places of volumes back to their sizes. They differ where a resize was overtaken between its steps.
func (s *Service) SweepStorage(ctx context.Context) error {
	f := store.VolumeFilter{Limit: httpx.MaxLimit}
	for {
		volumes, err := s.store.ListVolumes(ctx, f)
		if err != nil {
			return err
		}
		for _, v := range volumes {
			if v.OperationID == nil && v.Status != vm.VolumeCreating {
				_, err := s.placer.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: v.ID, StorageBytes: v.SizeBytes})
				if err != nil && !errors.Is(err, scheduler.ErrAllocationNotFound) {
					return err
				}
			}
		}
		if len(volumes) < f.Limit {
			return nil
		}
		last := volumes[len(volumes)-1]
		f.Before, f.BeforeID = last.CreatedAt, last.ID
	}
}

// StorageTotals counts volumes and snapshots, for the metrics.
func (s *Service) StorageTotals(ctx context.Context) (store.StorageTotals, error) {
	return s.store.StorageTotals(ctx)
}
