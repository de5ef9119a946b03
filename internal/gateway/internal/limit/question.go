package limit

import (
	"net/netip"
	"strconv"
	"sync"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/cache"
)

// The limits in the order in which they are asked, by their names in metrics and answers.
const (
	byRoute   = "route"
	byUser    = "user"
	byKey     = "key"
	byTenant  = "tenant"
	byAddress = "address"
)

// question is all that decides which limits a request is held against.
type question struct {
	rule string // of the route's limit
	rate cache.Limit
	who  Caller
	cost int
}

// asked is what the counters are asked for a question. It is not changed once made.
type asked struct {
	asks   []cache.Ask
	names  []string   // of the limits
	bursts [][]string // values of RateLimit-Limit
}

func (q *asked) add(name, key string, limit cache.Limit, cost int) {
	q.asks = append(q.asks, cache.Ask{Key: "gateway:" + name + ":" + key, Limit: limit, Cost: cost})
	q.names = append(q.names, name)
	q.bursts = append(q.bursts, []string{strconv.Itoa(limit.Burst)})
}

// questions remembers what callers who come again are held against, so that it need not be put into words for every request.
type questions struct {
	mu    sync.Mutex // guards known
	known *cache.Recent[question, *asked]
}

// maxQuestions bounds what is remembered: some 10 MiB when it is full.
const maxQuestions = 10_000

func newQuestions() *questions {
	return &questions{known: cache.NewRecent[question, *asked](maxQuestions)}
}

// of gives what is asked for a question under the rates, which are the same at every call.
func (s *questions) of(q question, rates Rates) *asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.known.Get(q)
	if !ok {
		a = q.ask(rates)
		s.known.Set(q, a)
	}
	return a
}

func (q question) ask(rates Rates) *asked {
	a := &asked{}
	known := q.who.User != uuid.Nil
	if q.rate.Rate > 0 {
		if known {
			a.add(byRoute, q.rule+":"+string(q.who.User[:]), q.rate, 1)
		} else {
			a.add(byRoute, q.rule+":"+addressKey(q.who.Addr), q.rate, 1)
		}
	}
	if known && rates.User.Rate > 0 {
		a.add(byUser, string(q.who.User[:]), rates.User, 1)
	}
	if q.who.Key != uuid.Nil && rates.Key.Rate > 0 {
		a.add(byKey, string(q.who.Key[:]), rates.Key, 1)
	}
	if known && rates.Tenant.Rate > 0 {
		a.add(byTenant, string(q.who.Tenant[:]), rates.Tenant, q.cost)
	}
	if rates.Address.Rate > 0 {
		a.add(byAddress, addressKey(q.who.Addr), rates.Address, 1)
	}
	return a
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
