package edge

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// Load bounds how many requests are worked on at once. The bound follows how long answers take: where they take longer the more there are at
// once, fewer are let in, so that those take the time they should. The others wait a moment and are then refused.
type Load struct {
	limiter adaptivelimiter.AdaptiveLimiter[any]
	refused prometheus.Counter
}

// The bounds of the bound. Below the least one, refusing would cost more than it saves; the modules have pools of their own behind it.
const (
	leastAtOnce = 200
	mostAtOnce  = 5000
	loadWait    = time.Second
)

// NewLoad makes a Load and registers its metrics. reg may be nil.
func NewLoad(reg prometheus.Registerer) (*Load, error) {
	l := &Load{
		limiter: adaptivelimiter.NewBuilder[any]().WithLimits(leastAtOnce, mostAtOnce, leastAtOnce).Build(),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "gateway_overloaded_total", Help: "Requests refused with 503 because too many were being answered."}),
	}
	return l, telemetry.Register(reg, "load", l.refused,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_concurrency_limit", Help: "How many requests are worked on at once at most, at this moment."},
			func() float64 { return float64(l.limiter.Limit()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_concurrency", Help: "How many requests are being worked on, streams and those that ask to be held aside."},
			func() float64 { return float64(l.limiter.Inflight()) }))
}

// enter lets a request in, or fails with ErrOverloaded. What machines ask to see whether the server lives, and what administrators of the
// platform ask, is always let in; streams and requests that are held cost nothing while they wait, and are not counted.
func (l *Load) enter(ctx context.Context, r *http.Request, found *entry, x *exchange) (leave func(), err error) {
	if l == nil || found.quiet || found.Raw || found.module == "gateway" || held(found, r) || x.known && x.principal.Scope == identity.ScopePlatform {
		return func() {}, nil
	}
	permit, ok := l.limiter.TryAcquirePermit()
	if !ok {
		if permit, err = l.limiter.AcquirePermitWithMaxWait(ctx, loadWait); err != nil {
			l.refused.Inc()
			return nil, gateway.ErrOverloaded.WithMeta(httpx.MetaRetryAfter, "2").Wrap(err)
		}
	}
	return permit.Record, nil
}

// cost is what a request takes of its tenant's budget: lists the more they ask for, counting and looking at all tenants much.
func cost(found *entry, r *http.Request) int {
	c := found.policy.Cost
	if r.URL.RawQuery == "" || r.Method != http.MethodGet {
		return c
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return c
	}
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > httpx.DefaultLimit {
		c += min(n, httpx.MaxLimit) / httpx.DefaultLimit
	}
	if strings.EqualFold(q.Get("count"), "true") {
		c += 20
	}
	if q.Get("tenant_id") == "all" {
		c += 5
	}
	return c
}
