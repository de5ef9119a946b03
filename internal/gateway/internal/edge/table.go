// Package edge is the way of a request through the gateway: it is given an id, checked, routed, authenticated and handed to the module
// that the route belongs to; then it is logged and measured. Nothing here knows a module by name. Only gatewaymodule uses it.
//
// Invariants: a module sees a request only under its canonical path and after its credentials were resolved; whatever a client sends, the
// answer is never a 500 of the edge's own; a raw path is never a metric's label.
package edge

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/novacron/novacron/internal/gateway/internal/policy"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Surface is what a module shows of itself to the outside.
type Surface interface {
	Name() string
	Routes() []httpx.Route
	Handler() http.Handler
	OpenAPI() ([]byte, error)
}

// Elsewhere is a Surface of a module in another process.
type Elsewhere interface {
	Surface
	Known() bool // it has been reached, so its routes are known
	URL() string
}

// entry is one row of the table.
type entry struct {
	httpx.Route
	module  string
	handler http.Handler
	policy  policy.Policy
	public  bool   // credentials are not looked at
	url     string // of the process it runs in; empty: this one
	quiet   bool   // asked every few seconds by machines: logged at debug only, and never refused for there being too many
}

// place is where a row stands.
type place struct{ method, pattern string }

// Table is every route of every surface. It is immutable.
type Table struct {
	mux     *chi.Mux // finds patterns; it never serves
	entries map[place]*entry
	methods []string // that occur at all, sorted
	away    []string // modules that run elsewhere and were never reached, so that nobody knows their routes
	pool    sync.Pool
}

// NewTable takes the routes of the surfaces and what the rules say about each. It refuses routes without a permission and routes that two
// surfaces claim.
func NewTable(surfaces []Surface, rules []policy.Rule, quiet ...string) (*Table, error) {
	set := policy.NewSet(rules, canonical)
	t := &Table{mux: chi.NewMux(), entries: map[place]*entry{}, pool: sync.Pool{New: func() any { return chi.NewRouteContext() }}}
	var failed []error
	for _, s := range surfaces {
		if elsewhere, ok := s.(Elsewhere); ok && !elsewhere.Known() {
			t.away = append(t.away, s.Name())
		}
		handler := s.Handler()
		for _, r := range s.Routes() {
			key := place{r.Method, r.Path}
			if other, ok := t.entries[key]; ok {
				failed = append(failed, fmt.Errorf("route %s %s is claimed by %s and by %s", r.Method, r.Path, other.module, s.Name()))
				continue
			}
			if r.Permission == "" {
				failed = append(failed, fmt.Errorf("route %s %s of %s declares no permission", r.Method, r.Path, s.Name()))
				continue
			}
			held := set.For(s.Name(), r)
			t.entries[key] = &entry{Route: r, module: s.Name(), handler: handler, policy: held,
				public: r.Permission == identity.Public && !held.AuthRequired, quiet: slices.Contains(quiet, r.Path), url: urlOf(s)}
			t.mux.Method(r.Method, r.Path, handler)
			if !slices.Contains(t.methods, r.Method) {
				t.methods = append(t.methods, r.Method)
			}
		}
	}
	slices.Sort(t.methods)
	return t, errors.Join(failed...)
}

// find gives the row for a request, or nil and the methods that the path would take. HEAD is answered by GET.
func (t *Table) find(method, path string) (*entry, []string) {
	rctx, _ := t.pool.Get().(*chi.Context)
	defer t.pool.Put(rctx)
	lookup := func(method string) *entry {
		rctx.Reset()
		if pattern := t.mux.Find(rctx, method, path); pattern != "" {
			return t.entries[place{method, pattern}]
		}
		return nil
	}
	if e := lookup(method); e != nil {
		return e, nil
	}
	if method == http.MethodHead {
		if e := lookup(http.MethodGet); e != nil {
			return e, nil
		}
	}
	var allowed []string
	for _, m := range t.methods {
		if lookup(m) == nil {
			continue
		}
		allowed = append(allowed, m)
		if m == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	return nil, slices.Compact(allowed)
}

func urlOf(s Surface) string {
	if elsewhere, ok := s.(Elsewhere); ok {
		return elsewhere.URL()
	}
	return ""
}

// unreached gives the module that a path may belong to although no route is known for it.
func (t *Table) unreached(path string) string {
	for _, module := range t.away {
		if policy.Below(canonical(path), policy.Paths(module), canonical) {
			return module
		}
	}
	return ""
}

// Idle lists the rules that apply to no route; none while there are modules whose routes nobody knows yet.
func (t *Table) Idle(rules []policy.Rule) (idle []policy.Rule) {
	if len(t.away) > 0 {
		return nil
	}
	for _, r := range rules {
		used := false
		for _, e := range t.entries {
			used = used || policy.Matches(r, e.module, e.Route, canonical)
		}
		if !used {
			idle = append(idle, r)
		}
	}
	return idle
}

// Row is a route with the module it belongs to and what holds for it.
type Row struct {
	httpx.Route
	Module string
	URL    string // of the process it runs in; empty: this one
	Policy policy.Policy
}

// TimeLimit is how long an answer may take where routes that say nothing take the usual time; 0: as long as it takes.
func (r Row) TimeLimit(usual time.Duration) time.Duration { return timeLimit(r.Route, r.Policy, usual) }

// Rows lists the table by path and method.
func (t *Table) Rows() []Row {
	rows := make([]Row, 0, len(t.entries))
	for _, e := range t.entries {
		rows = append(rows, Row{Route: e.Route, Module: e.module, URL: e.url, Policy: e.policy})
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return rows
}
