// Package gatewaymodule builds the gateway module: it takes what the other modules show to the outside and serves it on one address.
// Only the composition root imports it. The gateway starts last and stops first.
package gatewaymodule

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/internal/docs"
	"github.com/novacron/novacron/internal/gateway/internal/edge"
	"github.com/novacron/novacron/internal/gateway/internal/encode"
	"github.com/novacron/novacron/internal/gateway/internal/keep"
	"github.com/novacron/novacron/internal/gateway/internal/limit"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/pki"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// Surface is what a module shows of itself to the outside. Every module is one.
type Surface = edge.Surface

// Authenticator is the part of the auth module that the gateway needs; auth.Service is one.
type Authenticator = edge.Authenticator

// Counters is the part of the cache that the rate limits need.
type Counters = limit.Counters

// Answers is the part of the cache that kept answers need.
type Answers = keep.Store

// Deps is what the module needs of others.
type Deps struct {
	Auth Authenticator
	// Counters count requests for the rate limits. nil: nothing is limited.
	Counters Counters
	// CountersShared says that the counters are in another process, where they can be away.
	CountersShared bool
	// Answers keeps answers on routes that have a cache_ttl. nil: none are kept.
	Answers Answers
	// Audit makes records of requests that the gateway refuses itself. May be nil.
	Audit *audit.Recorder
	// Bus tells of changes, which make kept answers old. May be nil.
	Bus      bus.Bus
	Surfaces []Surface // of the modules that this process runs, without the gateway itself
	// Readiness asks every module of the process whether it can work. May be nil: then only the gateway itself counts.
	Readiness func(ctx context.Context) map[string]error
	Gatherer  prometheus.Gatherer // what /metrics shows
	// Registerer takes the HTTP metrics. May be nil.
	Registerer prometheus.Registerer
	Log        *slog.Logger
	Build      telemetry.Build
	Modules    []string      // that this process runs, for /api/v1/info
	Errors     []*errs.Error // of all modules, for /docs/errors
	Now        func() time.Time
}

// Module is the gateway module.
type Module struct {
	cfg  Config // as the module was made with it
	deps Deps
	kit  *httpx.API
	edge *edge.Edge

	changing sync.Mutex           // held while live is replaced
	live     atomic.Pointer[live] // what requests are served by now
	limits   *limit.Limiter       // the first one; nil: nothing is limited
	remotes  remotes

	keeper *keep.Keeper               // nil: no answer is kept
	pair   atomic.Pointer[pki.Pair]   // of the listener; nil: it speaks plain HTTP
	mutual atomic.Pointer[tls.Config] // with the authorities of clients; nil: they need not show a certificate
	http   *telemetry.HTTP

	ready    readiness
	draining atomic.Bool
	failed   chan error // holds the error of a listener that ended by itself

	mu      sync.Mutex // guards what follows
	server  *http.Server
	addr    net.Addr
	endAll  context.CancelFunc // ends the context of every request
	serving chan struct{}      // closed when Serve has returned
	// stopChanges ends the subscriptions that make kept answers old.
	stopChanges func()
}

// live is what can change while requests are served.
type live struct {
	cfg   Config
	state edge.State
	spec  []byte // the merged OpenAPI document
	json  *docs.File
	yaml  func() (*docs.File, error) // made when it is first asked for: it takes long, and seldom is
}

// New makes the route table and the OpenAPI document. It fails where two modules claim one route, one operation id or one error code, and
// where a route declares no permission. Start does the rest.
func New(cfg Config, deps Deps) (*Module, error) {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, err
	}
	if deps.Auth == nil || deps.Gatherer == nil || deps.Log == nil {
		return nil, errors.New("gateway: an authenticator, a gatherer of metrics and a logger are needed")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	metrics, err := telemetry.NewHTTP(deps.Registerer)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	m := &Module{cfg: cfg, deps: deps, kit: httpx.New("gateway"), http: metrics, failed: make(chan error, 1)}
	m.kit.Audit(deps.Audit)
	if err := m.register(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if deps.Counters != nil {
		if m.limits, err = limit.New(cfg.Rates.limits(), deps.Counters, deps.CountersShared, deps.Log, deps.Registerer); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	load, err := edge.NewLoad(deps.Registerer)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	encoder, err := encode.New()
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if deps.Answers != nil {
		if m.keeper, err = keep.New(deps.Answers, deps.Log, deps.Registerer); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	remotes, err := m.remotesOf(cfg)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	m.remotes.set(remotes)
	m.edge = edge.New(edge.Config{MaxUploadBytes: cfg.MaxUploadBytes, ReadStall: cfg.ReadStall, WriteStall: cfg.WriteStall},
		edge.Deps{Auth: deps.Auth, Load: load, Encoder: encoder, Keeper: m.keeper, Metrics: metrics, Log: deps.Log, Audit: deps.Audit})
	if err := m.rebuild(cfg); err != nil {
		return nil, err
	}
	return m, nil
}

// Name is the module's name.
func (m *Module) Name() string { return "gateway" }

// Start opens the listener. From then on requests are served. It is idempotent, and may follow Stop.
func (m *Module) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.server != nil {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", m.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s (http.listen): %w", m.cfg.Listen, err)
	}
	serve, err := m.secure(l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if m.stopChanges, err = m.watchChanges(); err != nil {
		return errors.Join(err, l.Close())
	}
	m.startRemotes()
	base, endAll := context.WithCancel(context.WithoutCancel(ctx))
	server := &http.Server{
		Handler: m.edge, ReadHeaderTimeout: m.cfg.ReadHeaderTimeout, IdleTimeout: m.cfg.IdleTimeout, MaxHeaderBytes: m.cfg.MaxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return base }, ConnState: m.http.ConnState("gateway"),
		ErrorLog: slog.NewLogLogger(m.deps.Log.Handler(), slog.LevelDebug), // broken connections; nothing an operator could act on
	}
	serving := make(chan struct{})
	m.server, m.addr, m.endAll, m.serving = server, l.Addr(), endAll, serving
	m.draining.Store(false)
	m.edge.Resume()
	go func() { // ends with Stop
		defer close(serving)
		if err := serve(server); !errors.Is(err, http.ErrServerClosed) {
			select {
			case m.failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err):
			default: // one is enough to end the run
			}
		}
	}()
	m.deps.Log.InfoContext(ctx, "gateway listens", "address", l.Addr().String(), "tls", m.cfg.TLS.CertFile != "")
	return nil
}

// Done tells when the listener has ended by itself.
func (m *Module) Done() <-chan error { return m.failed }

// Addr gives the address that the gateway listens on; nil while it does not.
func (m *Module) Addr() net.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addr
}

// Stop lets no new request in and waits for those that are being answered, at most until ctx ends: first /ready says so for as long as
// DrainDelay, then streams are told to end, then everything else when DrainGrace is over. It is idempotent.
func (m *Module) Stop(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.server == nil {
		return nil
	}
	m.draining.Store(true)
	if m.cfg.DrainDelay > 0 {
		delay := time.NewTimer(m.cfg.DrainDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-ctx.Done():
		}
	}
	m.edge.Drain()
	grace := time.AfterFunc(m.cfg.DrainGrace, m.endAll)
	defer grace.Stop()
	err := m.server.Shutdown(ctx)
	if err == nil {
		err = m.edge.Wait(ctx) // for websockets, which the server does not count
	}
	m.endAll()
	if err != nil {
		err = fmt.Errorf("requests were cut off: %w", errors.Join(err, m.server.Close()))
	}
	<-m.serving
	m.server, m.addr = nil, nil
	return errors.Join(err, m.stopWatching())
}

// Ready tells whether the gateway accepts requests.
func (m *Module) Ready(context.Context) error {
	if m.draining.Load() {
		return gateway.ErrDraining
	}
	if m.Addr() == nil {
		return errNotStarted
	}
	return nil
}

var errNotStarted = errs.New(errs.Unavailable, "gateway.not_started", "the gateway module has not started")

// Errors lists the module's errors for the reference.
func Errors() []*errs.Error { return append(gateway.Errors(), errNotStarted) }

// Routes lists the gateway's own routes.
func (m *Module) Routes() []httpx.Route { return m.kit.Routes() }

// Handler serves the gateway's own routes. Edge serves those of all modules.
func (m *Module) Handler() http.Handler { return m.kit.Handler() }

// Edge serves everything, as the listener does.
func (m *Module) Edge() http.Handler { return m.edge }

// Surfaces lists the surfaces that are served, the gateway's own included.
func (m *Module) Surfaces() []Surface {
	list := slices.Clone(m.deps.Surfaces)
	for _, u := range m.remotes.now() {
		list = append(list, u)
	}
	return append(list, m)
}

// Spec gives the merged OpenAPI document as JSON.
func (m *Module) Spec() []byte { return slices.Clone(m.live.Load().spec) }
