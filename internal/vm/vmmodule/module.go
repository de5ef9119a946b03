// Package vmmodule builds the vm module from its parts: the controller role with its database, sagas and routes, and the node role
// with its hypervisor. The roles share nothing but the bus, also when they live in one process.
package vmmodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/httpapi"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
	"github.com/novacron/novacron/internal/vm/internal/statuscache"
	"github.com/novacron/novacron/internal/vm/internal/stream"
)

// Deps is what the module needs of others.
type Deps struct {
	Bus        bus.Bus
	Scheduler  service.Placer   // controller only
	Cache      statuscache.Kept // controller only
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// Fault is handed to the operation engine; see operation.Config. Nil in production.
	Fault func(kind, step, when string) error
}

// Module is the vm module.
type Module struct {
	cfg  Config
	deps Deps
	kit  *httpx.API
	// audit makes records of calls while the controller runs.
	audit *audit.Recorder
	svc   *service.Service

	newDriver func(Config, *slog.Logger) driver.Driver // the libvirt one, except in tests

	mu         sync.Mutex // guards what follows
	controller *controller
	node       *nodeRole
}

// New checks the configuration and prepares the routes; Start does the rest.
func New(cfg Config, deps Deps) (*Module, error) {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, err
	}
	if cfg.has(RoleController) && deps.Scheduler == nil {
		return nil, errors.New("vm: the controller role needs the scheduler")
	}
	if cfg.has(RoleController) && deps.Cache == nil {
		return nil, errors.New("vm: the controller role needs the cache")
	}
	m := &Module{cfg: cfg, deps: deps, kit: httpx.New("vm"), newDriver: libvirtDriver}
	if cfg.has(RoleController) {
		var err error
		if m.audit, err = audit.New(audit.Config{Module: schema, Node: cfg.NodeName, Log: deps.Log, Registerer: deps.Registerer}); err != nil {
			return nil, err
		}
		m.kit.Audit(m.audit)
		m.kit.RemembersKeys()
		m.svc = service.New(service.Config{DetachPatience: cfg.DetachPatience, StopGrace: cfg.StopGrace, ReservationTTL: cfg.ReservationTTL, NetworkPool: cfg.NetworkPool, MaxImageBytes: cfg.MaxImageBytes, UploadTTL: cfg.UploadTTL,
			WebhookAllow: cfg.webhookRanges(), GuestFileMax: cfg.GuestFileMax,
			Drift: service.DriftConfig{Mode: cfg.DriftMode, Grace: cfg.DriftGrace, Retention: cfg.DriftRetention, MaxPerNode: cfg.DriftMaxPerNode}}, deps.Log)
		httpapi.Register(m.kit, m.svc, httpapi.Config{MaxImageBytes: cfg.MaxImageBytes, Log: deps.Log})
	}
	return m, nil
}

// Name is the module's name.
func (m *Module) Name() string { return "vm" }

// Start starts the roles, the controller first: a node is ready once its first report has been acknowledged.
func (m *Module) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.has(RoleController) && m.controller == nil {
		c, err := startController(ctx, m.cfg, m.deps, m.svc, m.audit)
		if err != nil {
			return fmt.Errorf("start vm controller: %w", err)
		}
		m.controller = c
	}
	if m.cfg.has(RoleNode) && m.node == nil {
		n, err := startNode(ctx, m.cfg, m.deps, m.newDriver)
		if err != nil {
			return fmt.Errorf("start vm node: %w", err)
		}
		m.node = n
	}
	return nil
}

// Stop stops the roles. Guests run on.
func (m *Module) Stop(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var failed error
	if m.node != nil {
		failed = errors.Join(failed, m.node.stop(ctx))
		m.node = nil
	}
	if m.controller != nil {
		failed = errors.Join(failed, m.controller.stop(ctx))
		m.controller = nil
	}
	return failed
}

// Ready tells why the module cannot work right now, or nil.
func (m *Module) Ready(ctx context.Context) error {
	m.mu.Lock()
	c, n := m.controller, m.node
	m.mu.Unlock()
	if m.cfg.has(RoleController) {
		if c == nil {
			return errNotStarted
		}
		if err := c.ready(ctx); err != nil {
			return err
		}
	}
	if m.cfg.has(RoleNode) {
		if n == nil {
			return errNotStarted
		}
		return n.ready(ctx)
	}
	return nil
}

var errNotStarted = errs.New(errs.Unavailable, "vm.not_started", "the vm module has not started")

// Routes lists the module's routes.
func (m *Module) Routes() []httpx.Route { return m.kit.Routes() }

// OpenAPI gives the module's part of the OpenAPI document.
func (m *Module) OpenAPI() ([]byte, error) { return m.kit.OpenAPI() }

// Handler serves the module's routes.
func (m *Module) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		c := m.controller
		m.mu.Unlock()
		if c == nil {
			httpx.WriteError(w, r, errNotStarted)
			return
		}
		c.gate.Wrap(c.idempotent(m.kit.Handler())).ServeHTTP(w, r)
	})
}

// Service gives the module's contract to other modules.
func (m *Module) Service() vm.Service { return gated{Service: service.Contract{Service: m.svc}, m: m} }

// gated keeps other modules from making something in a tenant that is being deleted.
type gated struct {
	vm.Service
	m *Module
}

// CreateVM implements vm.Service.
func (g gated) CreateVM(ctx context.Context, req vm.CreateVMRequest) (vm.CreateVMResponse, error) {
	g.m.mu.Lock()
	c := g.m.controller
	g.m.mu.Unlock()
	if c == nil {
		return vm.CreateVMResponse{}, errNotStarted
	}
	p, _ := identity.From(ctx)
	leave, err := c.gate.Enter(p.TenantID)
	if err != nil {
		return vm.CreateVMResponse{}, err
	}
	defer leave()
	return g.Service.CreateVM(ctx, req)
}

// Errors lists the module's errors for the reference.
func Errors() []*errs.Error {
	return append(append(append(vm.Errors(), nodeapi.Errors()...), stream.ErrTicket), errNotStarted)
}
