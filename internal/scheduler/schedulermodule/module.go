// Package schedulermodule builds the scheduler module from its parts: database, heartbeats, the sweep of expired reservations, and routes.
package schedulermodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/auditrow"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/startstop"
	"github.com/novacron/novacron/internal/platform/tenancy"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/httpapi"
	"github.com/novacron/novacron/internal/scheduler/internal/service"
	"github.com/novacron/novacron/internal/scheduler/internal/store"
)

// schema is the module's part of the database.
const schema = "scheduler"

// The times within which the module's own work must be done.
const (
	heartbeatTimeout = 5 * time.Second
	readyTimeout     = 2 * time.Second
)

// Deps is what the module needs of others.
type Deps struct {
	Bus        bus.Bus
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// Module is the scheduler module.
type Module struct {
	cfg     Config
	deps    Deps
	kit     *httpx.API
	store   *store.Store
	svc     *service.Service
	metrics *metrics
	gate    *tenancy.Gate
	audit   *audit.Recorder

	mu      sync.Mutex // guards running
	running *running   // nil: stopped
}

// running is what Start started, in the order in which it was started.
type running struct {
	pool       *pgxpool.Pool
	registered bool
	heartbeats bus.Subscription
	tenants    bus.Subscription
	sweeper    *startstop.Loop
	relay      *outbox.Relay
	audit      *audit.Recorder
}

// New checks the configuration and prepares the routes; Start does the rest.
func New(cfg Config, deps Deps) (*Module, error) {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, err
	}
	if deps.Bus == nil || deps.Log == nil {
		return nil, errors.New("scheduler: the module needs the bus and a logger")
	}
	m := &Module{cfg: cfg, deps: deps, kit: httpx.New(schema), metrics: newMetrics()}
	m.store = store.New(store.Config{Policy: cfg.policy(), DefaultQuota: cfg.DefaultQuota})
	m.svc = service.New(service.Config{Policy: cfg.policy(), ReservationTTL: cfg.ReservationTTL}, m.store, m.metrics, deps.Log)
	m.gate = tenancy.New(m.store)
	var err error
	if m.audit, err = audit.New(audit.Config{Module: schema, Log: deps.Log, Registerer: deps.Registerer}); err != nil {
		return nil, err
	}
	m.kit.Audit(m.audit)
	httpapi.Register(m.kit, m.svc)
	return m, nil
}

// Name is the module's name.
func (m *Module) Name() string { return schema }

// Start brings the tables up to date and begins to listen to heartbeats and to sweep. It is idempotent.
func (m *Module) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running != nil {
		return nil
	}
	r := &running{}
	if err := m.start(ctx, r); err != nil {
		m.stop(r)
		return fmt.Errorf("start scheduler: %w", err)
	}
	m.running = r
	return nil
}

func (m *Module) start(ctx context.Context, r *running) error {
	migrations, err := db.Migrations(schema)
	if err != nil {
		return err
	}
	if err := pg.Bootstrap(ctx, m.cfg.DatabaseURL, pg.Module{Schema: schema, Migrations: migrations}, m.deps.Log); err != nil {
		return fmt.Errorf("prepare database: %w", err)
	}
	if r.pool, err = pg.Open(ctx, pg.Config{URL: m.cfg.DatabaseURL, Schema: schema, MaxConns: m.cfg.MaxConns, ApplicationName: "novacron-scheduler"}); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	m.store.Attach(r.pool)
	r.relay = outbox.NewRelay(r.pool, m.deps.Bus, outbox.Config{Shared: []string{bus.SubjectAuditRecords}, Log: m.deps.Log})
	if err := r.relay.Start(ctx); err != nil {
		return fmt.Errorf("start outbox relay: %w", err)
	}
	m.audit.Start(auditrow.New(r.pool))
	r.audit = m.audit
	if m.deps.Registerer != nil {
		if err := m.deps.Registerer.Register(m.metrics); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		r.registered = true
	}
	// Several schedulers may hear one heartbeat; the rows keep the newest, so it does no harm.
	r.heartbeats, err = bus.NewTopic[event.NodeHeartbeat](bus.SubjectNodeHeartbeat).Subscribe(m.deps.Bus, bus.SubscribeOptions{},
		func(ctx context.Context, h event.NodeHeartbeat) {
			ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
			defer cancel()
			m.svc.Heartbeat(ctx, h)
		})
	if err != nil {
		return fmt.Errorf("listen to heartbeats: %w", err)
	}
	if r.tenants, err = m.gate.Serve(m.deps.Bus, schema); err != nil {
		return fmt.Errorf("answer for tenants: %w", err)
	}
	r.sweeper = startstop.Every(m.cfg.SweepInterval, m.sweep)
	return nil
}

// sweep gives back what has expired and looks at the nodes for the metrics.
func (m *Module) sweep(ctx context.Context) {
	err := m.svc.SweepOnce(ctx)
	nodes, listErr := m.svc.Nodes(ctx)
	if listErr == nil {
		m.metrics.nodes.Store(&nodes)
	}
	if err = errors.Join(err, listErr); err != nil && ctx.Err() == nil {
		m.deps.Log.ErrorContext(ctx, "sweep of expired reservations failed", "error", err)
	}
}

// Stop ends what Start began. It is idempotent, and works on a module that never started.
func (m *Module) Stop(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running != nil {
		m.stop(m.running)
		m.running = nil
	}
	return nil
}

// stop ends what was started, the newest first.
func (m *Module) stop(r *running) {
	if r.sweeper != nil {
		r.sweeper.Stop()
	}
	if r.tenants != nil {
		r.tenants.Close()
	}
	if r.heartbeats != nil {
		r.heartbeats.Close()
	}
	if r.registered {
		m.deps.Registerer.Unregister(m.metrics)
	}
	if r.audit != nil {
		r.audit.Stop()
	}
	if r.relay != nil {
		ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
		defer cancel()
		if err := r.relay.Stop(ctx); err != nil {
			m.deps.Log.Warn("the outbox of the scheduler was not stopped in time", "error", err)
		}
	}
	m.store.Attach(nil)
	if r.pool != nil {
		r.pool.Close()
	}
}

// Ready tells why the module cannot work right now, or nil.
func (m *Module) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return m.svc.Ready(ctx)
}

// Routes lists the module's routes.
func (m *Module) Routes() []httpx.Route { return m.kit.Routes() }

// OpenAPI gives the module's part of the OpenAPI document.
func (m *Module) OpenAPI() ([]byte, error) { return m.kit.OpenAPI() }

// Handler serves the module's routes; before Start and after Stop each answers scheduler.not_running.
func (m *Module) Handler() http.Handler { return m.gate.Wrap(m.kit.Handler()) }

// Service gives the module's contract to other modules.
func (m *Module) Service() scheduler.Service { return m.svc }

// Errors lists the module's errors for the reference.
func Errors() []*errs.Error { return scheduler.Errors() }
