// Package service holds the scheduler's use cases: it checks what it is asked, lets the store do it, and tells a caller no more about nodes
// than the caller may know.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/store"
)

// The permissions that the use cases ask for beyond what the routes declare.
const (
	PermissionNodeRead       = "node:read"
	PermissionQuotaRead      = "quota:read"
	PermissionQuotaWrite     = "quota:write"
	PermissionSchedulerRead  = "scheduler:read"
	maxReservation           = 24 * time.Hour // the longest a reservation may stay unconfirmed
	maxLabelKey, maxLabelVal = 63, 255
)

// Recorder is told of every reservation.
type Recorder interface {
	Reserved(result string, took time.Duration)
}

// Results that a Recorder is told.
const (
	ResultReserved = "reserved" // a place was taken
	ResultExisting = "existing" // the machine held the place already
	ResultNoFit    = "no_fit"
	ResultQuota    = "quota_exceeded"
	ResultRefused  = "refused" // the request itself was wrong
	ResultFailed   = "failed"
)

// Config is what the use cases decide by.
type Config struct {
	Policy         placement.Policy
	ReservationTTL time.Duration // where a request names none
}

// Service implements scheduler.Service and the use cases of the REST routes.
type Service struct {
	cfg   Config
	store *store.Store
	rec   Recorder
	log   *slog.Logger
}

var _ scheduler.Service = (*Service)(nil)

// New makes the service.
func New(cfg Config, st *store.Store, rec Recorder, log *slog.Logger) *Service {
	return &Service{cfg: cfg, store: st, rec: rec, log: log}
}

// Reserve implements scheduler.Service.
func (s *Service) Reserve(ctx context.Context, req scheduler.ReserveRequest) (scheduler.ReserveResponse, error) {
	begun := time.Now()
	resp, result, err := s.reserve(ctx, req)
	s.rec.Reserved(result, time.Since(begun))
	return resp, err
}

func (s *Service) reserve(ctx context.Context, req scheduler.ReserveRequest) (_ scheduler.ReserveResponse, result string, _ error) {
	if req.TTL == 0 {
		req.TTL = s.cfg.ReservationTTL
	}
	if err := checkReserve(req); err != nil {
		return scheduler.ReserveResponse{}, ResultRefused, err
	}
	r, err := s.store.Reserve(ctx, req)
	switch {
	case errors.Is(err, scheduler.ErrQuotaExceeded):
		return scheduler.ReserveResponse{}, ResultQuota, err
	case errors.Is(err, scheduler.ErrReservationMismatch):
		return scheduler.ReserveResponse{}, ResultRefused, err
	case err != nil:
		return scheduler.ReserveResponse{}, ResultFailed, err
	case !r.Taken:
		return scheduler.ReserveResponse{}, ResultNoFit, placement.NoFit(r.Verdicts, mayReadNodes(ctx))
	}
	result = ResultReserved
	if r.Existing {
		result = ResultExisting
	}
	return scheduler.ReserveResponse{Allocation: r.Allocation, NodeName: r.NodeName}, result, nil
}

// mayReadNodes tells whether the caller may know nodes by name and how full they are. A call without a principal, from within a saga
// for example, may end up in front of a tenant's eyes, so it may not.
func mayReadNodes(ctx context.Context) bool {
	p, ok := identity.From(ctx)
	return ok && p.Allows(PermissionNodeRead)
}

func checkReserve(req scheduler.ReserveRequest) error {
	invalid := scheduler.ErrInvalid
	bad := func(location, message string) { invalid = invalid.WithField(location, message, "") }
	if req.VMID == uuid.Nil {
		bad("vm_id", "must be an id")
	}
	if req.TenantID == uuid.Nil {
		bad("tenant_id", "must be an id")
	}
	if req.TTL < time.Second || req.TTL > maxReservation {
		bad("ttl", "must be from a second to a day")
	}
	switch req.Kind {
	case "", scheduler.AllocationVM:
		checkSize(bad, "", req.VCPUs, req.MemoryBytes, req.StorageBytes, req.HypervisorType)
	case scheduler.AllocationVolume, scheduler.AllocationSnapshot:
		if req.VCPUs != 0 || req.MemoryBytes != 0 || req.HypervisorType != "" || req.StorageBytes < 0 {
			bad("kind", "takes storage and nothing else")
		}
	default:
		bad("kind", "must be vm, volume or snapshot")
	}
	if len(invalid.Fields) > 0 {
		return invalid
	}
	return nil
}

func checkSize(bad func(location, message string), prefix string, vcpus int, memory, storage int64, hypervisor string) {
	if vcpus < 1 {
		bad(prefix+"vcpus", "must be at least 1")
	}
	if memory < 1 {
		bad(prefix+"memory_bytes", "must be at least 1")
	}
	if storage < 0 {
		bad(prefix+"storage_bytes", "must not be negative")
	}
	if hypervisor == "" {
		bad(prefix+"hypervisor_type", "must be named")
	}
}

// ResizeStorage implements scheduler.Service.
func (s *Service) ResizeStorage(ctx context.Context, req scheduler.ResizeStorageRequest) (scheduler.ResizeStorageResponse, error) {
	if req.StorageBytes < 0 {
		return scheduler.ResizeStorageResponse{}, scheduler.ErrInvalid.WithField("storage_bytes", "must not be negative", "")
	}
	a, verdicts, err := s.store.ResizeStorage(ctx, req)
	if err == nil && len(verdicts) > 0 {
		err = placement.NoFit(verdicts, mayReadNodes(ctx))
	}
	return scheduler.ResizeStorageResponse{Allocation: a}, err
}

// Resize implements scheduler.Service.
func (s *Service) Resize(ctx context.Context, req scheduler.ResizeRequest) (scheduler.ResizeResponse, error) {
	if req.VCPUs < 1 || req.VCPUs > maxVCPUs || req.MemoryBytes < 1 {
		return scheduler.ResizeResponse{}, scheduler.ErrInvalid.WithField("vcpus", "vCPUs and memory must be positive", "")
	}
	a, verdicts, err := s.store.Resize(ctx, req)
	if err == nil && len(verdicts) > 0 {
		err = placement.NoFit(verdicts, mayReadNodes(ctx))
	}
	return scheduler.ResizeResponse{Allocation: a}, err
}

// maxVCPUs is more than any node has.
const maxVCPUs = 1 << 20

// Confirm implements scheduler.Service.
func (s *Service) Confirm(ctx context.Context, req scheduler.ConfirmRequest) (scheduler.ConfirmResponse, error) {
	a, err := s.store.Confirm(ctx, req.VMID)
	return scheduler.ConfirmResponse{Allocation: a}, err
}

// Release implements scheduler.Service.
func (s *Service) Release(ctx context.Context, req scheduler.ReleaseRequest) (scheduler.ReleaseResponse, error) {
	_, err := s.store.Release(ctx, req.VMID)
	return scheduler.ReleaseResponse{}, err
}

// GetAllocation implements scheduler.Service.
func (s *Service) GetAllocation(ctx context.Context, req scheduler.GetAllocationRequest) (scheduler.GetAllocationResponse, error) {
	a, err := s.store.GetAllocation(ctx, req.VMID)
	return scheduler.GetAllocationResponse{Allocation: a}, err
}

// ListAllocations implements scheduler.Service.
func (s *Service) ListAllocations(ctx context.Context, req scheduler.ListAllocationsRequest) (scheduler.ListAllocationsResponse, error) {
	list, err := s.store.ListAllocations(ctx, req)
	return scheduler.ListAllocationsResponse{Allocations: list}, err
}

// GetNode implements scheduler.Service.
func (s *Service) GetNode(ctx context.Context, req scheduler.GetNodeRequest) (scheduler.GetNodeResponse, error) {
	n, err := s.store.GetNode(ctx, req.NodeID)
	return scheduler.GetNodeResponse{Node: n}, err
}

// ListNodes implements scheduler.Service.
func (s *Service) ListNodes(ctx context.Context, req scheduler.ListNodesRequest) (scheduler.ListNodesResponse, error) {
	list, err := s.store.ListNodes(ctx, req.After, req.Limit)
	return scheduler.ListNodesResponse{Nodes: list}, err
}

// Heartbeat takes in what a node tells of itself. It logs what it cannot use: there is nobody to answer.
func (s *Service) Heartbeat(ctx context.Context, h event.NodeHeartbeat) {
	if h.NodeID == uuid.Nil || h.Name == "" || h.Timestamp.IsZero() {
		s.log.WarnContext(ctx, "heartbeat dropped: it does not name its node, or its time", "node_id", h.NodeID, "node", h.Name)
		return
	}
	fresh, err := s.store.Heartbeat(ctx, h)
	if err != nil {
		s.log.ErrorContext(ctx, "heartbeat lost", "node_id", h.NodeID, "node", h.Name, "error", err)
		return
	}
	if !fresh {
		s.log.DebugContext(ctx, "heartbeat ignored: a newer one is known", "node_id", h.NodeID, "node", h.Name, "epoch", h.Epoch)
	}
}

// SweepOnce gives back reservations that nobody confirmed in time.
func (s *Service) SweepOnce(ctx context.Context) error {
	n, err := s.store.Sweep(ctx)
	if n > 0 {
		s.log.InfoContext(ctx, "expired reservations given back", "count", n)
	}
	return err
}

// Allocations lists what machines hold, for the REST route: of the caller's tenant, of another, or of all where tenant is nil.
func (s *Service) Allocations(ctx context.Context, req scheduler.ListAllocationsRequest) ([]scheduler.Allocation, error) {
	p, _ := identity.From(ctx)
	if req.TenantID == nil || *req.TenantID != p.TenantID {
		if !p.AllowsPlatform(PermissionSchedulerRead) {
			return nil, scheduler.ErrPlatformOnly.WithMessage("the permission %s on the platform is missing", PermissionSchedulerRead).
				WithMeta("permission", PermissionSchedulerRead)
		}
	}
	return s.store.ListAllocations(ctx, req)
}

// UpdateNode changes labels or cordons.
func (s *Service) UpdateNode(ctx context.Context, id uuid.UUID, change store.NodeChange) (scheduler.Node, error) {
	for key, value := range change.Labels {
		if key == "" || len(key) > maxLabelKey {
			return scheduler.Node{}, scheduler.ErrInvalid.WithField("body.labels", fmt.Sprintf("a label's name has from 1 to %d bytes", maxLabelKey), key)
		}
		if value != nil && len(*value) > maxLabelVal {
			return scheduler.Node{}, scheduler.ErrInvalid.WithField("body.labels."+key, fmt.Sprintf("a label's value has at most %d bytes", maxLabelVal), *value)
		}
	}
	n, err := s.store.UpdateNode(ctx, id, change)
	if err != nil {
		return scheduler.Node{}, err
	}
	if change.Cordoned != nil {
		s.log.InfoContext(ctx, "node cordoned or uncordoned", "node_id", id, "node", n.Name, "cordoned", n.Cordoned)
	}
	return n, nil
}

// Nodes gives every node, for the metrics.
func (s *Service) Nodes(ctx context.Context) ([]scheduler.Node, error) { return s.store.AllNodes(ctx) }

// Ready tells whether the database answers.
func (s *Service) Ready(ctx context.Context) error { return s.store.Ping(ctx) }
