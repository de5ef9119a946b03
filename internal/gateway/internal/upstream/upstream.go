// Package upstream reaches modules that run in another process: it sends requests on over mutual TLS, with the caller signed, streams bodies
// both ways without holding them, and keeps a process that is in trouble from taking the gateway with it. A request is sent again only where
// that cannot do a thing twice, and only as long as such requests are a small part of all.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// Config is what holds for one module that runs elsewhere.
type Config struct {
	Name     string        // of the module
	URLs     []string      // https://HOST:PORT of its processes
	Timeout  time.Duration // how long it may take until the head of an answer; 0: what the route allows
	Retries  int           // how often a request that may be repeated is sent again
	InFlight int           // requests that it may be answering for this gateway at once
	Failures int           // so many in a row, and no request is sent to that process for a while
	OpenFor  time.Duration // how long
	HTTP2    string        // HTTP2Off or HTTP2Auto, which speaks it with processes that do; empty: HTTP2Off
}

// What Config.HTTP2 may be.
const (
	HTTP2Off  = "off"
	HTTP2Auto = "auto"
)

// Defaults fills in what a configuration leaves out.
func (c Config) Defaults() Config {
	if c.InFlight == 0 {
		c.InFlight = 2000
	}
	if c.Failures == 0 {
		c.Failures = 5
	}
	if c.OpenFor == 0 {
		c.OpenFor = 5 * time.Second
	}
	if c.HTTP2 == "" {
		c.HTTP2 = HTTP2Off
	}
	return c
}

// Validate lists every mistake.
func (c Config) Validate() []error {
	var failed []error
	bad := func(format string, args ...any) { failed = append(failed, fmt.Errorf(format, args...)) }
	if len(c.URLs) == 0 {
		bad("urls: at least one is needed")
	}
	for _, s := range c.URLs {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Host == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.User != nil {
			bad("urls: %q is not https://HOST:PORT", s)
		}
	}
	if c.Timeout < 0 || c.OpenFor < 0 {
		bad("timeout, circuit_breaker.open_for: must not be negative")
	}
	if c.Retries < 0 || c.Retries > 10 {
		bad("retries: must be from 0 to 10")
	}
	if c.InFlight < 0 || c.Failures < 0 {
		bad("max_in_flight, circuit_breaker.failures: must not be negative")
	}
	if c.HTTP2 != "" && c.HTTP2 != HTTP2Off && c.HTTP2 != HTTP2Auto {
		bad("http2: %q is neither auto nor off", c.HTTP2)
	}
	return failed
}

// Deps is what every upstream of a gateway shares.
type Deps struct {
	TLS     func() *tls.Config // of the client, with its certificate and the authorities of now
	Signer  *hop.Signer
	Log     *slog.Logger
	Metrics *Metrics
	Budget  budget.Budget // of sending again, for all upstreams together
}

// NewBudget bounds how many of the requests at one time are ones that were sent again: a fifth.
func NewBudget() budget.Budget {
	return budget.NewBuilder().WithMaxRate(0.2).WithMinConcurrency(3).Build()
}

// Upstream is one module that runs elsewhere. It is safe for concurrent use.
type Upstream struct {
	cfg       Config
	deps      Deps
	processes processes
	client    *http.Transport
	room      bulkhead.Bulkhead[any]
	proxy     *httputil.ReverseProxy
	surface   atomic.Pointer[surface] // as it was last told; nil: never
}

// The times of a transport that a configuration does not name.
const (
	idleTimeout = 90 * time.Second
	idleConns   = 256
	// A connection of HTTP/2 that is silent for so long is asked whether it lives: it would take all requests with it.
	pingAfter = 10 * time.Second
)

// New makes an Upstream. Nothing is sent before it is asked for something.
func New(cfg Config, deps Deps) *Upstream {
	cfg = cfg.Defaults()
	var list Static
	for _, s := range cfg.URLs {
		if u, err := url.Parse(s); err == nil { // Validate has read it
			list = append(list, u)
		}
	}
	u := &Upstream{cfg: cfg, deps: deps,
		processes: processes{resolver: list, make: func() circuitbreaker.CircuitBreaker[any] {
			return circuitbreaker.NewBuilder[any]().WithFailureThreshold(uint(cfg.Failures)).WithDelay(cfg.OpenFor).WithSuccessThreshold(1).Build() //nolint:gosec // not negative
		}},
		client: &http.Transport{DialTLSContext: dial(deps.TLS, cfg.HTTP2), MaxIdleConnsPerHost: idleConns, IdleConnTimeout: idleTimeout, DisableCompression: true,
			ResponseHeaderTimeout: cfg.Timeout, MaxResponseHeaderBytes: 64 << 10, ExpectContinueTimeout: time.Second,
			ForceAttemptHTTP2: cfg.HTTP2 == HTTP2Auto, // which a transport with a dialer of its own does not do by itself; websockets go over 1.1 all the same
			HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter}},
		room: bulkhead.New[any](uint(cfg.InFlight)), //nolint:gosec // not negative
	}
	u.proxy = &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme = "https" // the host is picked for each try
			p.Out.Host = ""
			p.Out.Header.Del("Forwarded") // clients can write anything there
			for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				p.Out.Header.Del(name)
			}
		},
		Transport: (*tries)(u),
		ModifyResponse: func(r *http.Response) error {
			if w, ok := r.Request.Context().Value(writerKey{}).(http.ResponseWriter); ok {
				for name := range r.Header {
					w.Header().Del(name) // what the module says stands in place of what the gateway says of every answer
				}
			}
			return nil
		},
		ErrorHandler: u.fail,
		ErrorLog:     slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug), // broken connections; nothing an operator could act on
		BufferPool:   pool{},
	}
	return u
}

type writerKey struct{}

// Close lets go of idle connections.
func (u *Upstream) Close() { u.client.CloseIdleConnections() }

// Name is the module's name.
func (u *Upstream) Name() string { return u.cfg.Name }

// URL is where the module is reached; with several processes the first.
func (u *Upstream) URL() string { return u.cfg.URLs[0] }

// ServeHTTP sends a request on and gives the answer.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !u.room.TryAcquirePermit() {
		u.deps.Metrics.count(u.cfg.Name, "bulkhead")
		httpx.WriteError(w, r, gateway.ErrOverloaded.WithMessage("the module %s is answering as many requests as it may", u.cfg.Name).WithMeta(httpx.MetaRetryAfter, "1"))
		return
	}
	defer u.room.ReleasePermit()
	for _, name := range hop.Headers() {
		r.Header.Del(name) // r is the edge's own copy; what a client says there must not come near the module
	}
	u.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), writerKey{}, w)))
}

// fail answers for a module that gave no answer.
func (u *Upstream) fail(w http.ResponseWriter, r *http.Request, err error) {
	var known *errs.Error
	var why *errs.Error
	switch {
	case errors.As(err, &known):
	case errors.As(context.Cause(r.Context()), &why):
		known = why.Wrap(err)
	case errors.Is(err, circuitbreaker.ErrOpen):
		wait, _ := u.processes.open()
		known = gateway.ErrUpstreamAway.WithMeta(httpx.MetaRetryAfter, httpx.Seconds(max(wait, time.Second)))
	default:
		known = gateway.ErrUpstreamAway.WithMeta(httpx.MetaRetryAfter, "1").Wrap(err)
	}
	httpx.WriteError(w, r, known.WithMeta("service", u.cfg.Name))
}

// Metrics counts what upstreams do.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	open     *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them. reg may be nil.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gateway_upstream_requests_total",
			Help: "Tries to send a request to a module in another process, by outcome: answered, broken (one of those answered, whose answer broke off), failed, again (sent once more), open (not sent, the breaker is open), bulkhead (not sent, too many at once)."},
			[]string{"service", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gateway_upstream_duration_seconds",
			Help: "Time from sending a request to a module in another process to the head of its answer.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}},
			[]string{"service", "status_code"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gateway_upstream_breaker_open", Help: "1 while no request is sent to the module because the last ones failed."}, []string{"service"}),
	}
	return m, telemetry.Register(reg, "upstreams", m.requests, m.duration, m.open)
}

func (m *Metrics) count(service, outcome string) { m.requests.WithLabelValues(service, outcome).Inc() }
