// Package authmodule builds the auth module from its configuration and runs it. Only the composition root imports it.
package authmodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/httpapi"
	"github.com/novacron/novacron/internal/auth/internal/password"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/throttle"
	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/auth/internal/trail"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/mail"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/auditrow"
	"github.com/novacron/novacron/internal/platform/pg/idempotency"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/seal"
	"github.com/novacron/novacron/internal/platform/startstop"
)

const schema = "auth"

// Deps are what the module needs from the process.
type Deps struct {
	Bus        bus.Bus
	Cache      Cache
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
	// Permissions lists those that routes of the process ask for, for GET /api/v1/permissions. It is called when that is asked, so it may
	// look at modules that are made after this one. May be nil.
	Permissions func() []string
	// TenantHolders are the modules, besides this one, that are asked before a tenant is deleted.
	TenantHolders []string
	// AuditSources are the schemas of modules, besides this one, whose outboxes hold audit records.
	AuditSources []string
	// OnFirstAdmin is told, once in the life of an installation, the password of its first administrator, to show on the console. It is
	// also in file. May be nil. The log never holds it.
	OnFirstAdmin func(username, password, file string)
	// Mail sends mail; nil: there is none, and passwords are reset by administrators only.
	Mail Mailer
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// Mailer sends mail.
type Mailer interface {
	Send(ctx context.Context, m mail.Message) error
}

// Module is the auth module.
type Module struct {
	cfg     Config
	deps    Deps
	api     *httpx.API
	store   *store.Store
	ring    *token.Ring
	box     *seal.Box
	service *service.Service
	audit   *audit.Recorder
	trail   *trail.Trail

	mu      sync.Mutex // guards what follows, and makes Start and Stop one at a time
	pool    *pgxpool.Pool
	sweeper *startstop.Loop
	relay   *outbox.Relay
	intake  bus.Subscription // records of modules without a database

	idempotent atomic.Pointer[http.Handler] // the routes, POST requests of one Idempotency-Key carried out once; nil: not started
}

// New wires the module. It touches neither disk nor network; Start does. Until then its contract and its routes answer that it is unavailable.
func New(cfg Config, deps Deps) (*Module, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Bus == nil || deps.Cache == nil || deps.Log == nil {
		return nil, errors.New("auth: a bus, a cache and a logger are needed")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	hasher, err := password.NewHasher(cfg.params(), cfg.PasswordConcurrency, cfg.PasswordQueue)
	if err != nil {
		return nil, err
	}
	metrics, err := service.NewMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	m := &Module{cfg: cfg, deps: deps, api: httpx.New("auth"), store: store.New()}
	m.ring = token.NewRing(cfg.keyDir(), cfg.keyPlan(), deps.Now, func(err error) { deps.Log.Warn("the signing keys could not be read again", "error", err) })
	m.box = seal.NewBox(cfg.keyDir())
	m.service, err = service.New(service.Config{
		AccessTTL: cfg.AccessTTL, RefreshTTL: cfg.RefreshTTL, SessionTTL: cfg.SessionTTL, CacheEntries: cfg.CacheEntries,
		PasswordFile: cfg.passwordFile(), OneTimePasswordTTL: cfg.OneTimePasswordTTL, SelfRegistration: cfg.SelfRegistration,
		RegistrationTenant: cfg.RegistrationTenant, Issuer: cfg.Issuer, ResetTTL: cfg.PasswordLinkTTL, PublicURL: cfg.PublicURL,
	}, service.Deps{
		Store: m.store, Codec: token.NewCodec(m.ring, cfg.Issuer, cfg.Audience, deps.Now), Ring: m.ring, Hasher: hasher,
		Limiter: throttle.New(deps.Cache, throttle.DefaultRules(), deps.Now), Counters: deps.Cache, Bus: deps.Bus, Log: deps.Log,
		Metrics: metrics, Now: deps.Now, Known: m.permissions,
		TenantHolders: deps.TenantHolders, Box: m.box, Mail: deps.Mail,
	})
	if err != nil {
		return nil, err
	}
	if m.audit, err = audit.New(audit.Config{Module: schema, Log: deps.Log, Registerer: deps.Registerer, Now: deps.Now}); err != nil {
		return nil, err
	}
	m.api.Audit(m.audit)
	m.api.RemembersKeys()
	m.trail, err = trail.New(trail.Config{Dir: cfg.auditDir(), Retention: cfg.AuditRetention},
		trail.Deps{Store: m.store, Bus: deps.Bus, Log: deps.Log, Registerer: deps.Registerer, Now: deps.Now, Sources: append([]string{schema}, deps.AuditSources...)})
	if err != nil {
		return nil, err
	}
	httpapi.Register(m.api, m.service, m.ring, m.trail)
	return m, nil
}

// permissions lists what routes ask for: the process's, or at least the module's own.
func (m *Module) permissions() []string {
	var list []string
	for _, r := range m.api.Routes() {
		list = append(list, r.Permission)
	}
	if m.deps.Permissions != nil {
		list = append(list, m.deps.Permissions()...)
	}
	return list
}

// Name names the module.
func (m *Module) Name() string { return "auth" }

// Start brings the database up to date, reads or makes the signing keys, makes the first administrator where there is no user, and begins to
// listen for changes. It is idempotent, and may follow Stop.
func (m *Module) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pool != nil {
		return nil
	}
	migrations, err := db.Migrations(schema)
	if err != nil {
		return err
	}
	if err := pg.Bootstrap(ctx, m.cfg.DatabaseURL, pg.Module{Schema: schema, Migrations: migrations}, m.deps.Log); err != nil {
		return err
	}
	if err := m.ring.Open(); err != nil {
		return err
	}
	if err := m.box.Open(); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	pool, err := pg.Open(ctx, pg.Config{URL: m.cfg.DatabaseURL, Schema: schema, MaxConns: m.cfg.MaxConns})
	if err != nil {
		return err
	}
	m.store.Attach(pool)
	if err := m.firstAdmin(ctx); err != nil {
		return m.abandon(pool, err)
	}
	if err := m.service.Start(ctx); err != nil {
		return m.abandon(pool, err)
	}
	if err := m.startAudit(ctx, pool); err != nil {
		m.stopAudit(ctx)
		m.service.Stop()
		return m.abandon(pool, err)
	}
	m.pool = pool
	keys := idempotency.New(pool)
	handler := idempotent.Middleware(keys, httpx.WriteError)(m.api.Handler())
	m.idempotent.Store(&handler)
	m.sweeper = startstop.Every(time.Hour, func(ctx context.Context) {
		if err := keys.Sweep(ctx); err != nil && ctx.Err() == nil {
			m.deps.Log.WarnContext(ctx, "old idempotency keys could not be forgotten; it will be tried again", "error", err)
		}
	})
	return nil
}

// startAudit lets calls be recorded and records be chained.
func (m *Module) startAudit(ctx context.Context, pool *pgxpool.Pool) (err error) {
	m.relay = outbox.NewRelay(pool, m.deps.Bus, outbox.Config{Subjects: []string{bus.SubjectAuditEvents, bus.SubjectAuthEvents},
		Shared: []string{bus.SubjectAuditRecords}, Log: m.deps.Log})
	if err = m.relay.Start(ctx); err != nil {
		return err
	}
	records := auditrow.New(pool)
	if m.intake, err = audit.ServeRemote(m.deps.Bus, records); err != nil {
		return fmt.Errorf("take audit records: %w", err)
	}
	m.audit.Start(records)
	return m.trail.Start(ctx)
}

// stopAudit ends what startAudit began.
func (m *Module) stopAudit(ctx context.Context) {
	if m.intake != nil {
		m.intake.Close()
	}
	m.audit.Stop()
	m.trail.Stop()
	if err := m.relay.Stop(ctx); err != nil {
		m.deps.Log.WarnContext(ctx, "the outbox of auth was not stopped in time", "error", err)
	}
	m.intake, m.relay = nil, nil
}

func (m *Module) abandon(pool *pgxpool.Pool, err error) error {
	m.store.Detach()
	pool.Close()
	return err
}

func (m *Module) firstAdmin(ctx context.Context) error {
	plain, err := m.service.EnsureAdmin(ctx)
	if err != nil || plain == "" {
		return err
	}
	file := m.cfg.passwordFile()
	m.deps.Log.InfoContext(ctx, "made the first administrator", "username", "admin", "password_file", file)
	if m.deps.OnFirstAdmin != nil {
		m.deps.OnFirstAdmin("admin", plain, file)
	}
	return nil
}

// Stop ends what Start began. It is idempotent. Queries that run are waited for, but no longer than ctx.
func (m *Module) Stop(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pool == nil {
		return nil
	}
	m.sweeper.Stop()
	m.idempotent.Store(nil)
	m.service.Stop()
	m.stopAudit(ctx)
	m.store.Detach()
	closed := make(chan struct{})
	go func(pool *pgxpool.Pool) { // ends with the last query; statements have a timeout
		pool.Close()
		close(closed)
	}(m.pool)
	m.pool = nil
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("auth: wait for queries to end: %w", ctx.Err())
	}
}

// Ready tells whether the module can do its work.
func (m *Module) Ready(ctx context.Context) error { return m.store.Ping(ctx) }

// Routes lists the module's routes.
func (m *Module) Routes() []httpx.Route { return m.api.Routes() }

// Handler serves them.
func (m *Module) Handler() http.Handler {
	plain := m.api.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := m.idempotent.Load(); h != nil {
			(*h).ServeHTTP(w, r)
			return
		}
		plain.ServeHTTP(w, r)
	})
}

// OpenAPI gives the module's part of the OpenAPI document.
func (m *Module) OpenAPI() ([]byte, error) { return m.api.OpenAPI() }

// Service gives the module's contract.
func (m *Module) Service() auth.Service { return m.service }
