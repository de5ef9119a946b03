package authmodule_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/tenancy"
)

// shop is a module that keeps things of tenants.
type shop struct {
	mu        sync.Mutex // guards all below
	things    map[uuid.UUID]int64
	forgotten map[uuid.UUID]bool
}

func (s *shop) add(tenant uuid.UUID, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.things[tenant] += n
}

func (s *shop) TenantObjects(_ context.Context, tenant uuid.UUID) (map[string]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]int64{"things": s.things[tenant]}, nil
}

func (s *shop) ForgetTenant(_ context.Context, tenant uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten[tenant] = true
	return nil
}

// openShop adds a module named shop to the site.
func (s *site) openShop(t *testing.T) (*shop, *tenancy.Gate, bus.Subscription) {
	t.Helper()
	sh := &shop{things: map[uuid.UUID]int64{}, forgotten: map[uuid.UUID]bool{}}
	gate := tenancy.New(sh)
	sub, err := gate.Serve(s.bus, "shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	s.holders = []string{"shop"}
	return sh, gate, sub
}

func TestTenantsAreDeletedWhenEmpty(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sh, gate, sub := s.openShop(t)
	p := s.start(t)
	adm := p.admin().Access
	red := p.addTenant(adm, "red")
	path := "/api/v1/tenants/" + red.ID.String()
	remove := func(match string) answer {
		return p.do(call{method: "DELETE", path: path, token: adm, header: map[string]string{"If-Match": match}})
	}
	var now auth.Tenant
	unchanged := func() {
		t.Helper()
		p.do(call{method: "GET", path: path, token: adm}).want(200).into(&now)
		if now.Disabled {
			t.Error("a tenant that is not deleted is left disabled")
		}
		leave, err := gate.Enter(red.ID)
		if err != nil {
			t.Fatalf("a tenant that is not deleted stays closed: %v", err)
		}
		leave()
	}
	remove(`"7"`).want(412, auth.ErrVersion)

	sh.add(red.ID, 2)
	u := p.addUser(adm, "ada", "viewer", &red)
	a := remove("").want(409, auth.ErrTenantNotEmpty)
	if !strings.Contains(string(a.body), "2 things") || !strings.Contains(string(a.body), "1 users") {
		t.Errorf("the refusal does not say what there is: %s", a.body)
	}
	unchanged()
	sh.add(red.ID, -2)
	remove("").want(409, auth.ErrTenantNotEmpty)
	p.do(call{method: "DELETE", path: "/api/v1/users/" + u.ID.String(), token: adm}).want(204)
	var project auth.Tenant
	p.do(call{method: "POST", path: "/api/v1/tenants", token: adm, body: object{"name": "red-web", "parent_id": red.ID}}).want(201).into(&project)
	remove("").want(409, auth.ErrTenantNotEmpty)
	p.do(call{method: "DELETE", path: "/api/v1/tenants/" + project.ID.String(), token: adm}).want(204)
	unchanged()

	// Its own roles and what was bound in it go with it.
	p.addRole(adm, red.ID, "clerk", "vm:read")
	other := p.addUser(adm, "bob", "viewer", nil)
	p.bind(adm, other.ID, red.ID, "clerk").want(201)
	tk := p.login("bob", goodPassword).Access
	p.do(call{method: "GET", path: "/api/v1/me", token: tk}.in(red.ID)).want(200)
	remove("").want(204)
	remove("").want(404, auth.ErrTenantNotFound)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk}.in(red.ID)).want(403, auth.ErrNoRole)
	if n := query[int](t, s, "SELECT (SELECT count(*) FROM auth.role_bindings) + (SELECT count(*) FROM auth.roles WHERE tenant_id IS NOT NULL)"); n != 0 {
		t.Errorf("%d roles and bindings are left", n)
	}
	if _, err := gate.Enter(red.ID); err == nil || !sh.forgotten[red.ID] {
		t.Errorf("the deleted tenant still takes objects, or its settings stay: %v", err)
	}
	p.addTenant(adm, "red") // the name is free again

	var me auth.User
	p.do(call{method: "GET", path: "/api/v1/me", token: adm}).want(200).into(&me)
	p.do(call{method: "DELETE", path: "/api/v1/tenants/" + me.TenantID.String(), token: adm}).want(409, auth.ErrOwnTenant)

	// Who does not answer may have something.
	blue := p.addTenant(adm, "blue")
	sub.Close()
	a = p.do(call{method: "DELETE", path: "/api/v1/tenants/" + blue.ID.String(), token: adm}).want(409, auth.ErrTenantUnknown)
	if !strings.Contains(string(a.body), "shop") {
		t.Errorf("the refusal does not say who keeps silent: %s", a.body)
	}
	p.do(call{method: "GET", path: "/api/v1/tenants/" + blue.ID.String(), token: adm}).want(200).into(&now)
	if now.Disabled {
		t.Error("a tenant of which nothing is known was disabled")
	}
}

// Something that was being made when the question was asked turns up when the tenant is closed; the tenant stays, in use.
func TestTenantWithSomethingOnItsWayStays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.holders = []string{"shop"}
	closed := false
	sub, err := bus.Serve(s.bus, bus.SubjectTenantObjects("shop"), bus.ServeOptions{},
		func(_ context.Context, q event.TenantQuestion) (event.TenantAnswer, error) {
			closed = closed || q.Phase == event.TenantClose
			if q.Phase == event.TenantOpen {
				closed = false
			}
			if closed {
				return event.TenantAnswer{Objects: map[string]int64{"things": 1}}, nil
			}
			return event.TenantAnswer{}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	p := s.start(t)
	adm := p.admin().Access
	red := p.addTenant(adm, "red")
	p.do(call{method: "DELETE", path: "/api/v1/tenants/" + red.ID.String(), token: adm}).want(409, auth.ErrTenantNotEmpty)
	var now auth.Tenant
	p.do(call{method: "GET", path: "/api/v1/tenants/" + red.ID.String(), token: adm}).want(200).into(&now)
	if now.Disabled || closed {
		t.Errorf("left disabled %v, closed %v", now.Disabled, closed)
	}
	// One that was disabled before stays so.
	p.do(call{method: "PATCH", path: "/api/v1/tenants/" + red.ID.String(), token: adm, body: object{"disabled": true}}).want(200)
	p.do(call{method: "DELETE", path: "/api/v1/tenants/" + red.ID.String(), token: adm}).want(409, auth.ErrTenantNotEmpty)
	p.do(call{method: "GET", path: "/api/v1/tenants/" + red.ID.String(), token: adm}).want(200).into(&now)
	if !now.Disabled {
		t.Error("a disabled tenant was enabled by a deletion that failed")
	}
}
