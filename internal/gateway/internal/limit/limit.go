// Package limit decides whether a request is let in: by the limit of its route, of its user, of its API key, of its address, and by the budget
// of its tenant. All of them are asked in one step, so that several gateways that share a Redis let in exactly what is allowed together.
//
// Where the shared counters cannot be reached, each gateway counts for itself until they are back; it says so in the log, in its metrics and
// in its readiness. Only internal/edge uses it.
package limit

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/internal/policy"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// Counters is the part of a cache that is needed.
type Counters interface {
	AllowAll(ctx context.Context, asks ...cache.Ask) (d cache.Decision, which int, err error)
}

// Rates are the limits that hold for all routes together. A zero one is none.
type Rates struct {
	User    cache.Limit // requests of one user, those with API keys included
	Key     cache.Limit // requests with one API key, besides
	Tenant  cache.Limit // the budget of one tenant: what its requests may cost together
	Address cache.Limit // requests of one client address, or of one IPv6 network of 64 bits
}

// Caller is who asks.
type Caller struct {
	User   uuid.UUID // Nil: nobody
	Key    uuid.UUID // the API key that they showed; Nil: none
	Tenant uuid.UUID
	Addr   netip.Addr
}

// Limiter is safe for concurrent use.
type Limiter struct {
	rates  Rates
	shared Counters
	local  *cache.Memory // nil where shared is in this process already
	log    *slog.Logger
	now    func() time.Time

	away     *atomic.Int64 // until when the shared counters are left alone, in nanoseconds; 0: they answer
	refused  *prometheus.CounterVec
	fallback prometheus.GaugeFunc
}

// retryShared is how long counters that do not answer are left alone: a request must not wait for what has just failed.
const retryShared = time.Second

// localEntries bounds the counters that are kept while the shared ones are away: some 20 MiB when it is full.
const localEntries = 100_000

// New makes a Limiter. shared are the counters of the installation; distributed says that they are in another process and can be away.
func New(rates Rates, shared Counters, distributed bool, log *slog.Logger, reg prometheus.Registerer) (*Limiter, error) {
	l := &Limiter{rates: rates, shared: shared, log: log, now: time.Now, away: new(atomic.Int64)}
	if distributed {
		l.local = cache.NewMemory(localEntries)
	}
	l.refused = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gateway_rate_limited_total",
		Help: "Requests refused with 429, by the limit that refused them: route, user, key, tenant or address."}, []string{"limit"})
	l.fallback = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_rate_limit_local",
		Help: "1 while the shared counters cannot be reached and this gateway counts for itself."}, func() float64 {
		if l.Degraded() {
			return 1
		}
		return 0
	})
	return l, telemetry.Register(reg, "rate limits", l.refused, l.fallback)
}

// WithRates gives a Limiter of other rates that counts with the same counters.
func (l *Limiter) WithRates(rates Rates) *Limiter {
	c := *l
	c.rates = rates
	return &c
}

// Close lets go of the counters that the Limiter has made itself.
func (l *Limiter) Close() error {
	if l.local == nil {
		return nil
	}
	return l.local.Close()
}

// Degraded tells that the shared counters do not answer.
func (l *Limiter) Degraded() bool { return l.away.Load() != 0 }

// names of the limits in the order in which they are asked, for metrics and answers.
const (
	byRoute   = "route"
	byUser    = "user"
	byKey     = "key"
	byTenant  = "tenant"
	byAddress = "address"
)

// Take counts a request and tells in h what is left. It fails with ErrRateLimited. cost is what the request takes of the tenant's budget.
func (l *Limiter) Take(ctx context.Context, h http.Header, p *policy.Policy, who Caller, cost int) error {
	var asks [5]cache.Ask
	var names [5]string
	n := 0
	add := func(name, key string, limit cache.Limit, cost int) {
		asks[n], names[n] = cache.Ask{Key: key, Limit: limit, Cost: cost}, name
		n++
	}
	known := who.User != uuid.Nil
	if p.Rate.Rate > 0 {
		if known {
			add(byRoute, "gateway:route:"+p.Rule+":"+string(who.User[:]), p.Rate, 1)
		} else {
			add(byRoute, "gateway:route:"+p.Rule+":"+addressKey(who.Addr), p.Rate, 1)
		}
	}
	if known && l.rates.User.Rate > 0 {
		add(byUser, "gateway:user:"+string(who.User[:]), l.rates.User, 1)
	}
	if who.Key != uuid.Nil && l.rates.Key.Rate > 0 {
		add(byKey, "gateway:key:"+string(who.Key[:]), l.rates.Key, 1)
	}
	if known && l.rates.Tenant.Rate > 0 {
		add(byTenant, "gateway:tenant:"+string(who.Tenant[:]), l.rates.Tenant, cost)
	}
	if l.rates.Address.Rate > 0 {
		add(byAddress, "gateway:address:"+addressKey(who.Addr), l.rates.Address, 1)
	}
	if n == 0 {
		return nil
	}
	return l.ask(ctx, h, asks[:n], names[:n])
}

// TakeRefused counts a request whose credentials were not accepted against its address, ten times as dear as another one, so that guessing
// ends soon.
func (l *Limiter) TakeRefused(ctx context.Context, h http.Header, addr netip.Addr) error {
	if l.rates.Address.Rate == 0 {
		return nil
	}
	return l.ask(ctx, h, []cache.Ask{{Key: "gateway:address:" + addressKey(addr), Limit: l.rates.Address, Cost: 10}}, []string{byAddress})
}

func (l *Limiter) ask(ctx context.Context, h http.Header, asks []cache.Ask, names []string) error {
	d, which, err := l.decide(ctx, asks)
	if err != nil {
		if ctx.Err() != nil { // the client has gone; nobody reads the answer
			return nil
		}
		return fmt.Errorf("count a request: %w", err)
	}
	h["Ratelimit-Limit"] = []string{strconv.Itoa(d.Limit)}
	h["Ratelimit-Remaining"] = []string{strconv.Itoa(d.Remaining)}
	h["Ratelimit-Reset"] = []string{httpx.Seconds(d.ResetAfter)}
	if d.Allowed {
		return nil
	}
	l.refused.WithLabelValues(names[which]).Inc()
	return gateway.ErrRateLimited.WithMessage("the limit of this %s is used up", names[which]).
		WithMeta("limit", names[which]).WithMeta(httpx.MetaRetryAfter, httpx.Seconds(max(d.RetryAfter, time.Second)))
}

// decide asks the shared counters, and those of this process while the shared ones are away.
func (l *Limiter) decide(ctx context.Context, asks []cache.Ask) (cache.Decision, int, error) {
	if l.local == nil {
		return l.shared.AllowAll(ctx, asks...)
	}
	away := l.away.Load()
	if away != 0 {
		// One request finds out whether they are back; the others do not wait for it.
		now := l.now().UnixNano()
		if now < away || !l.away.CompareAndSwap(away, now+int64(retryShared)) {
			return l.local.AllowAll(ctx, asks...)
		}
	}
	d, which, err := l.shared.AllowAll(ctx, asks...)
	if err == nil {
		if away != 0 && l.away.Swap(0) != 0 {
			l.log.InfoContext(ctx, "shared rate limits are back")
		}
		return d, which, nil
	}
	if errs.From(err).Kind != errs.Unavailable || ctx.Err() != nil {
		return d, which, err
	}
	if l.away.Swap(l.now().Add(retryShared).UnixNano()) == 0 {
		l.log.WarnContext(ctx, "shared rate limits cannot be reached; this gateway counts for itself until they are back", "error", err)
	}
	return l.local.AllowAll(ctx, asks...)
}

// addressKey names a client. Whoever has an IPv6 address usually has the whole network of 64 bits (RFC 6177).
func addressKey(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr().String()
		}
	}
	return a.Unmap().String()
}
