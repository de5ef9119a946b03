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

	questions *questions // of these rates

	away     *atomic.Int64 // until when the shared counters are left alone, in nanoseconds; 0: they answer
	refused  *prometheus.CounterVec
	fallback prometheus.GaugeFunc
}

// retryShared is how long counters that do not answer are left alone: a request must not wait for what has just failed.
const retryShared = time.Second

// localEntries bounds the counters that are kept while the shared ones are away: some 15 MiB when it is full.
const localEntries = 100_000

// New makes a Limiter. shared are the counters of the installation; distributed says that they are in another process and can be away.
func New(rates Rates, shared Counters, distributed bool, log *slog.Logger, reg prometheus.Registerer) (*Limiter, error) {
	l := &Limiter{rates: rates, shared: shared, log: log, now: time.Now, questions: newQuestions(), away: new(atomic.Int64)}
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
	c.rates, c.questions = rates, newQuestions()
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

// Take counts a request and tells in h what is left. It fails with ErrRateLimited. cost is what the request takes of the tenant's budget.
func (l *Limiter) Take(ctx context.Context, h http.Header, p *policy.Policy, who Caller, cost int) error {
	q := l.questions.of(question{rule: p.Rule, rate: p.Rate, who: who, cost: cost}, l.rates)
	if len(q.asks) == 0 {
		return nil
	}
	return l.ask(ctx, h, q)
}

// TakeRefused counts a request whose credentials were not accepted against its address, ten times as dear as another one, so that guessing
// ends soon.
func (l *Limiter) TakeRefused(ctx context.Context, h http.Header, addr netip.Addr) error {
	if l.rates.Address.Rate == 0 {
		return nil
	}
	var q asked
	q.add(byAddress, addressKey(addr), l.rates.Address, 10)
	return l.ask(ctx, h, &q)
}

func (l *Limiter) ask(ctx context.Context, h http.Header, q *asked) error {
	d, which, err := l.decide(ctx, q.asks)
	if err != nil {
		if ctx.Err() != nil { // the client has gone; nobody reads the answer
			return nil
		}
		return fmt.Errorf("count a request: %w", err)
	}
	told := [...]string{strconv.Itoa(d.Remaining), httpx.Seconds(d.ResetAfter)}
	h["Ratelimit-Limit"], h["Ratelimit-Remaining"], h["Ratelimit-Reset"] = q.bursts[which], told[:1:1], told[1:]
	if d.Allowed {
		return nil
	}
	l.refused.WithLabelValues(q.names[which]).Inc()
	return gateway.ErrRateLimited.WithMessage("the limit of this %s is used up", q.names[which]).
		WithMeta("limit", q.names[which]).WithMeta(httpx.MetaRetryAfter, httpx.Seconds(max(d.RetryAfter, time.Second)))
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
