// Package tenancy lets a tenant be deleted without leaving anything behind.
//
// A module that keeps objects of tenants has a Gate. It answers the auth module's questions on bus.SubjectTenantObjects: what is there of a
// tenant? And it is a door before the module's routes: once a tenant is closed, requests that could make something in it are refused, and those that
// are at work already, uploads for example, are waited for before anything is counted. So what is counted as empty stays empty.
//
// That a tenant is closed is known to this process only. Nothing more is needed: requests die with the process, and a tenant that is being deleted
// is disabled, so that no new ones come.
package tenancy

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// ErrClosed refuses to make something in a tenant that is being deleted.
var ErrClosed = errs.New(errs.Conflict, "tenant.closed", "the tenant is being deleted").WithAction("Act in another tenant.")

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrClosed} }

// Store is what a module knows of tenants.
type Store interface {
	// TenantObjects counts what there is of a tenant, by kind.
	TenantObjects(ctx context.Context, tenantID uuid.UUID) (map[string]int64, error)
	// ForgetTenant drops what is no object but would stay behind, such as settings. It is only called for a tenant that is empty.
	ForgetTenant(ctx context.Context, tenantID uuid.UUID) error
}

// Gate is safe for concurrent use.
type Gate struct {
	store Store

	mu      sync.Mutex // guards tenants
	tenants map[uuid.UUID]*state
}

// state is what the gate knows of one tenant. It is dropped when it says nothing.
type state struct {
	closed  bool
	working int           // requests that are being answered
	idle    chan struct{} // closed when none is; made by who waits
}

// New makes a gate. It lets everything through.
func New(store Store) *Gate { return &Gate{store: store, tenants: map[uuid.UUID]*state{}} }

// Serve answers questions about tenants in the name of the module until the subscription is closed. One process of a module answers for all.
func (g *Gate) Serve(b bus.Bus, module string) (bus.Subscription, error) {
	return bus.Serve(b, bus.SubjectTenantObjects(module), bus.ServeOptions{}, g.answer)
}

func (g *Gate) answer(ctx context.Context, q event.TenantQuestion) (event.TenantAnswer, error) {
	switch q.Phase {
	case event.TenantAsk:
	case event.TenantClose:
		if err := g.Close(ctx, q.TenantID); err != nil {
			return event.TenantAnswer{}, err
		}
	case event.TenantForget:
		if err := g.store.ForgetTenant(ctx, q.TenantID); err != nil {
			return event.TenantAnswer{}, fmt.Errorf("forget tenant %s: %w", q.TenantID, err)
		}
	case event.TenantOpen:
		g.Open(q.TenantID)
		return event.TenantAnswer{}, nil
	default:
		return event.TenantAnswer{}, bus.ErrBadRequest.WithMessage("%.40q is no phase of a deletion", q.Phase)
	}
	objects, err := g.store.TenantObjects(ctx, q.TenantID)
	return event.TenantAnswer{Objects: objects}, err
}

// of gives the state of a tenant. The caller holds mu.
func (g *Gate) of(tenant uuid.UUID) *state {
	st := g.tenants[tenant]
	if st == nil {
		st = &state{}
		g.tenants[tenant] = st
	}
	return st
}

// Close refuses what could make something in the tenant from now on, and waits for what is at work, but no longer than ctx.
func (g *Gate) Close(ctx context.Context, tenant uuid.UUID) error {
	g.mu.Lock()
	st := g.of(tenant)
	st.closed = true
	if st.working == 0 {
		g.mu.Unlock()
		return nil
	}
	if st.idle == nil {
		st.idle = make(chan struct{})
	}
	idle := st.idle
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for requests of the tenant that are being answered: %w", ctx.Err())
	}
}

// Open takes Close back.
func (g *Gate) Open(tenant uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if st := g.tenants[tenant]; st != nil {
		st.closed = false
		g.drop(tenant, st)
	}
}

func (g *Gate) drop(tenant uuid.UUID, st *state) {
	if !st.closed && st.working == 0 {
		delete(g.tenants, tenant)
	}
}

// Enter notes that something may be made in the tenant until leave is called. It fails with ErrClosed.
func (g *Gate) Enter(tenant uuid.UUID) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := g.of(tenant)
	if st.closed {
		return nil, ErrClosed
	}
	st.working++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if st.working--; st.working > 0 {
			return
		}
		if st.idle != nil {
			close(st.idle)
			st.idle = nil
		}
		g.drop(tenant, st)
	}, nil
}

// Wrap puts the gate before a module's routes.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, known := identity.From(r.Context())
		if !known || r.Method != http.MethodPost && r.Method != http.MethodPut && r.Method != http.MethodPatch {
			next.ServeHTTP(w, r)
			return
		}
		leave, err := g.Enter(p.TenantID)
		if err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		defer leave()
		next.ServeHTTP(w, r)
	})
}
