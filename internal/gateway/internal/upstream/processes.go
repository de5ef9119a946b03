package upstream

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// process is one of those that run a module. Each has a breaker of its own, so that one in trouble leaves the work to the others.
type process struct {
	url     *url.URL
	breaker circuitbreaker.CircuitBreaker[any]
}

// processes picks one after the other. It is safe for concurrent use.
type processes struct {
	resolver Resolver
	make     func() circuitbreaker.CircuitBreaker[any]

	mu    sync.Mutex // guards what follows
	known map[string]*process
	next  int
}

// list gives the processes that there are now.
func (p *processes) list(ctx context.Context) ([]*process, error) {
	urls, err := p.resolver.Addresses(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]*process{}
	}
	p.next++
	all := make([]*process, len(urls))
	for i := range urls {
		u := urls[(p.next+i)%len(urls)] // each caller begins with another one
		if p.known[u.Host] == nil {
			p.known[u.Host] = &process{url: u, breaker: p.make()}
		}
		all[i] = p.known[u.Host]
	}
	if len(p.known) > len(urls) {
		maps.DeleteFunc(p.known, func(_ string, one *process) bool { return !slices.Contains(all, one) })
	}
	return all, nil
}

// open tells whether no process may be asked, and for how long.
func (p *processes) open() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var wait time.Duration
	for _, one := range p.known {
		if !one.breaker.IsOpen() {
			return 0, false
		}
		if d := one.breaker.RemainingDelay(); wait == 0 || d < wait {
			wait = d
		}
	}
	return wait, len(p.known) > 0
}

// undecided notes that a try says nothing about the process. A breaker that is half open waits for a word, so it waits once more instead.
func (p *process) undecided() {
	if p.breaker.IsHalfOpen() {
		p.breaker.RecordFailure()
	}
}
