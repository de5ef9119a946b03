package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/schedulerdb"
)

// Heartbeat registers a node or brings it up to date. It answers false for a heartbeat that is not newer than what is known. A node that
// has been silent for half the time after which it counts as unreachable is believed whatever its clock says: the clock may have been
// set back, and no message is under way for so long.
func (s *Store) Heartbeat(ctx context.Context, h event.NodeHeartbeat) (bool, error) {
	db, err := s.db()
	if err != nil {
		return false, err
	}
	hypervisors := h.Hypervisors
	if hypervisors == nil {
		hypervisors = []string{}
	}
	n, err := s.q.NodeHeartbeat(ctx, db, schedulerdb.NodeHeartbeatParams{
		ID: h.NodeID, Name: h.Name, Epoch: h.Epoch, ReportedAt: h.Timestamp, CpuCapacity: clampInt32(h.Capacity.VCPUs),
		MemoryCapacity: max(0, h.Capacity.MemoryBytes), StorageCapacity: max(0, h.Capacity.StorageBytes), StorageFree: max(0, h.StorageFree),
		CpuModel: h.CPUModel, Accelerator: h.Accelerator, Architecture: h.Architecture, Version: h.Version,
		HypervisorVersion: h.Hypervisor, Hypervisors: hypervisors, Health: h.Health, Reason: h.Reason,
		PatienceSeconds: s.cfg.Policy.NodeTimeout.Seconds() / 2,
	})
	if err != nil {
		return false, fmt.Errorf("keep heartbeat of node %s: %w", h.NodeID, pg.Map(err))
	}
	return n > 0, nil
}

// GetNode fails with scheduler.ErrNodeNotFound.
func (s *Store) GetNode(ctx context.Context, id uuid.UUID) (scheduler.Node, error) {
	db, err := s.db()
	if err != nil {
		return scheduler.Node{}, err
	}
	r, err := s.q.NodeGet(ctx, db, id)
	if err != nil {
		return scheduler.Node{}, fmt.Errorf("read node %s: %w", id, mapNoRows(err, scheduler.ErrNodeNotFound))
	}
	return s.toNode(r.Node, r.ReadAt)
}

// ListNodes gives a page of nodes, the latest registered first.
func (s *Store) ListNodes(ctx context.Context, after *scheduler.Position, limit int) ([]scheduler.Node, error) {
	db, err := s.db()
	if err != nil {
		return nil, err
	}
	at, id := start(after)
	list, err := s.q.NodeList(ctx, db, schedulerdb.NodeListParams{AfterTime: at, AfterID: id, MaxRows: rows(limit)})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", pg.Map(err))
	}
	nodes := make([]scheduler.Node, len(list))
	for i, r := range list {
		if nodes[i], err = s.toNode(r.Node, r.ReadAt); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// AllNodes gives every node, in no order.
func (s *Store) AllNodes(ctx context.Context) ([]scheduler.Node, error) {
	db, err := s.db()
	if err != nil {
		return nil, err
	}
	return s.allNodes(ctx, db)
}

func (s *Store) allNodes(ctx context.Context, db schedulerdb.DBTX) ([]scheduler.Node, error) {
	list, err := s.q.NodeListAll(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", pg.Map(err))
	}
	nodes := make([]scheduler.Node, len(list))
	for i, r := range list {
		if nodes[i], err = s.toNode(r.Node, r.ReadAt); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// NodeChange is what an administrator changes of a node.
type NodeChange struct {
	Revision *int64             // change only this revision; nil means any
	Labels   map[string]*string // merged into the labels; nil removes one
	Cordoned *bool
}

// MaxLabels is how many labels a node may have.
const MaxLabels = 64

// UpdateNode changes a node. It fails with scheduler.ErrNodeNotFound, scheduler.ErrVersion, or scheduler.ErrInvalid for too many labels.
// A change that changes nothing leaves the revision as it is.
func (s *Store) UpdateNode(ctx context.Context, id uuid.UUID, change NodeChange) (node scheduler.Node, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		r, err := s.q.NodeGetForUpdate(ctx, tx, id)
		if err != nil {
			return mapNoRows(err, scheduler.ErrNodeNotFound)
		}
		if node, err = s.toNode(r.Node, r.ReadAt); err != nil {
			return err
		}
		if change.Revision != nil && *change.Revision != node.Revision {
			return scheduler.ErrVersion
		}
		if err := s.setLabels(ctx, tx, &node, change.Labels); err != nil {
			return err
		}
		if change.Cordoned == nil || *change.Cordoned == node.Cordoned {
			return nil
		}
		node.Cordoned = *change.Cordoned
		node.Revision++
		return s.q.NodeSetCordoned(ctx, tx, schedulerdb.NodeSetCordonedParams{ID: id, Cordoned: node.Cordoned})
	})
	if err != nil {
		return scheduler.Node{}, fmt.Errorf("change node %s: %w", id, err)
	}
	return node, nil
}

func (s *Store) setLabels(ctx context.Context, tx pgx.Tx, node *scheduler.Node, change map[string]*string) error {
	changed := false
	for key, value := range change {
		old, had := node.Labels[key]
		switch {
		case value == nil && had:
			delete(node.Labels, key)
			changed = true
		case value != nil && (!had || old != *value):
			node.Labels[key] = *value
			changed = true
		}
	}
	if !changed {
		return nil
	}
	if len(node.Labels) > MaxLabels {
		return scheduler.ErrInvalid.WithField("body.labels", fmt.Sprintf("a node may have at most %d labels", MaxLabels), "")
	}
	labels, err := json.Marshal(node.Labels)
	if err != nil {
		return fmt.Errorf("encode labels: %w", err)
	}
	node.Revision++
	return s.q.NodeSetLabels(ctx, tx, schedulerdb.NodeSetLabelsParams{ID: node.ID, Labels: labels})
}

func (s *Store) toNode(r schedulerdb.Node, now time.Time) (scheduler.Node, error) {
	n := scheduler.Node{
		ID: r.ID, Name: r.Name, State: s.cfg.Policy.State(r.LastHeartbeat, now), Cordoned: r.Cordoned, Labels: map[string]string{},
		Capacity:  scheduler.Resources{VCPUs: int(r.CpuCapacity), MemoryBytes: r.MemoryCapacity, StorageBytes: r.StorageCapacity},
		Allocated: scheduler.Resources{VCPUs: int(r.CpuAllocated), MemoryBytes: r.MemoryAllocated, StorageBytes: r.StorageAllocated},
		VMs:       int(r.Vms), StorageFreeBytes: r.StorageFree, CPUModel: r.CpuModel, Accelerator: r.Accelerator,
		Architecture: r.Architecture, Version: r.Version, Hypervisor: r.HypervisorVersion, Hypervisors: r.Hypervisors, Health: r.Health,
		Reason: r.Reason, LastHeartbeat: r.LastHeartbeat.UTC(), RegisteredAt: r.RegisteredAt.UTC(), Epoch: r.Epoch, Revision: r.Revision,
	}
	n.Limits = s.cfg.Policy.Limits(n.Capacity)
	if n.State == scheduler.NodeUnreachable {
		n.Reason = "no heartbeat since " + n.LastHeartbeat.Format(time.RFC3339)
	}
	if string(r.Labels) != "{}" {
		if err := json.Unmarshal(r.Labels, &n.Labels); err != nil {
			return scheduler.Node{}, fmt.Errorf("decode labels of node %s: %w", r.ID, err)
		}
	}
	return n, nil
}
