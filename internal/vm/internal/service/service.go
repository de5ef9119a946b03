// Package service holds the use cases of the vm module's controller role: it checks what is asked, writes intent and operation in
// one transaction, and runs the sagas that make the nodes follow. It never talks to a hypervisor; nodes do, on its command.
package service

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/seal"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm/internal/imagefetch"
	"github.com/novacron/novacron/internal/vm/internal/imagestore"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/statuscache"
	"github.com/novacron/novacron/internal/vm/internal/store"
	"github.com/novacron/novacron/internal/vm/internal/stream"
)

// Placer is what this module needs of the scheduler.
type Placer interface {
	Reserve(context.Context, scheduler.ReserveRequest) (scheduler.ReserveResponse, error)
	Confirm(context.Context, scheduler.ConfirmRequest) (scheduler.ConfirmResponse, error)
	Release(context.Context, scheduler.ReleaseRequest) (scheduler.ReleaseResponse, error)
	Resize(context.Context, scheduler.ResizeRequest) (scheduler.ResizeResponse, error)
	ResizeStorage(context.Context, scheduler.ResizeStorageRequest) (scheduler.ResizeStorageResponse, error)
	ListNodes(context.Context, scheduler.ListNodesRequest) (scheduler.ListNodesResponse, error)
	ListAllocations(context.Context, scheduler.ListAllocationsRequest) (scheduler.ListAllocationsResponse, error)
	GetNode(context.Context, scheduler.GetNodeRequest) (scheduler.GetNodeResponse, error)
}

// Config bounds the use cases.
type Config struct {
	DetachPatience time.Duration  // how long a guest may take to let go of a disk
	StopGrace      time.Duration  // how long a guest may take to shut down before it is powered off
	ReservationTTL time.Duration  // how long a place is held before the first step of the saga confirms it
	NetworkPool    string         // CIDR that the tenants' default networks are cut from, a /24 each
	WebhookAllow   []netip.Prefix // ranges that webhooks may reach though they are no public ones
	MaxImageBytes  int64          // the most an upload may have
	UploadTTL      time.Duration  // after so long without a part an upload in parts is given up
	GuestFileMax   int64          // bytes of a file that is passed to or from a guest
	Drift          DriftConfig
}

// Service is safe for concurrent use.
type Service struct {
	cfg      Config
	store    *store.Store
	ops      *operation.Engine
	placer   Placer
	nodes    *nodeapi.Client
	images   *imagestore.Store
	fetcher  *imagefetch.Fetcher
	streams  *stream.Server
	box      *seal.Box
	usage    ConsoleRecorder
	recorder DriftRecorder
	statuses *statuscache.Cache
	log      *slog.Logger

	consoles consoleTickets
	policies policies
	boots    boots
	open     lastingCalls // consoles
	readers  lastingCalls // streams of events
	told     wake
	due      func() // wakes who sends to webhooks
	measured samples
	drift    drift
}

// New makes the service; it is of use once Bind has given it what it works on.
func New(cfg Config, log *slog.Logger) *Service {
	return &Service{cfg: cfg, log: log, policies: policies{sent: map[uuid.UUID]acknowledged{}}}
}

// Backends is what the service works on.
type Backends struct {
	Store   *store.Store
	Ops     *operation.Engine
	Placer  Placer
	Nodes   *nodeapi.Client
	Images  *imagestore.Store
	Fetcher *imagefetch.Fetcher
	Streams *stream.Server
	Box     *seal.Box // of the secrets of webhooks
	// Consoles is told of consoles.
	Consoles ConsoleRecorder
	Drift    DriftRecorder
	Statuses *statuscache.Cache
}

// Bind gives the service what it works on and registers its sagas with the operation engine, which must not have started yet. It is
// called once, before the first request.
func (s *Service) Bind(b Backends) {
	s.store, s.ops, s.placer, s.nodes, s.images, s.fetcher, s.streams, s.box, s.usage, s.recorder, s.statuses = b.Store, b.Ops, b.Placer, b.Nodes, b.Images, b.Fetcher, b.Streams, b.Box, b.Consoles, b.Drift, b.Statuses
	for _, sagas := range [][]operation.Saga{s.vmSagas(), s.imageSagas(), s.networkSagas(), s.volumeSagas(), s.diskSagas(), s.snapshotSagas(), s.interfaceSagas()} {
		for _, saga := range sagas {
			s.ops.Register(saga)
		}
	}
}

// caller is the principal of ctx. Routes refuse anonymous callers before a use case runs.
func caller(ctx context.Context) identity.Principal {
	p, _ := identity.From(ctx)
	return p
}

// visible tells whether the caller reaches a tenant at all. A foreign object is answered like an absent one.
func visible(ctx context.Context, tenant uuid.UUID, permission string) bool {
	p := caller(ctx)
	return p.TenantID == tenant || p.AllowsPlatform(permission)
}

// readable tells whether the caller may know an object: one of the tenant that they act in, of which some hold only what they own, or any with the
// permission on the platform. One that is not is answered like an absent one.
func readable(ctx context.Context, tenant, owner uuid.UUID, read string) bool {
	p := caller(ctx)
	return visible(ctx, tenant, read) && (tenant != p.TenantID || owner == p.UserID || p.Allows(read))
}

// permitted tells whether the caller may do to an object what permission names. Who may not know the object gets missing, and who knows it
// learns which permission they lack. Routes have refused those who hold the permission on nothing.
func permitted(ctx context.Context, tenant, owner uuid.UUID, permission, read string, missing error) error {
	switch {
	case caller(ctx).AllowsOn(permission, tenant, owner):
		return nil
	case !readable(ctx, tenant, owner, read):
		return missing
	case tenant != caller(ctx).TenantID:
		return httpx.MissingPlatform(permission)
	default:
		return httpx.MissingOthers(permission)
	}
}
