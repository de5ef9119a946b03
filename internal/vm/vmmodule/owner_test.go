package vmmodule

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
)

// Who holds permissions for their own things only sees, follows and changes those, and others' are like absent ones.
func TestOwnersKeepToTheirOwn(t *testing.T) {
	w := newWorld(t)
	image := w.image() // the colleague's
	theirs := w.create("theirs", image.ID)
	me := identity.Principal{UserID: uuid.New(), TenantID: w.tenant.TenantID, Scope: identity.ScopeTenant,
		Permissions: []string{"vm:*:own", "operation:*:own", "image:read", "network:read:own"}}
	mine := decode[op](t, w.doAs(me, http.MethodPost, "/api/v1/vms?wait=60s", createRequest("mine", image.ID)), http.StatusOK)
	if mine.Status != "succeeded" {
		t.Fatalf("created: %+v", mine)
	}
	their := w.get(theirs.TargetID)
	for _, route := range [][2]string{
		{"GET", "/api/v1/vms/" + their.ID.String()}, {"DELETE", "/api/v1/vms/" + their.ID.String()}, {"POST", "/api/v1/vms/" + their.ID.String() + "/stop"},
		{"POST", "/api/v1/vms/" + their.ID.String() + "/restart"}, {"POST", "/api/v1/vms/" + their.ID.String() + "/console"},
		{"GET", "/api/v1/vms/" + their.ID.String() + "/console/log"}, {"GET", "/api/v1/networks/" + their.Networks[0].NetworkID.String()},
		{"GET", "/api/v1/operations/" + theirs.ID.String()}, {"POST", "/api/v1/operations/" + theirs.ID.String() + "/cancel"},
		{"GET", "/api/v1/operations/" + theirs.ID.String() + "/events"},
	} {
		other := decode[errs.Problem](t, w.doAs(me, route[0], route[1], nil), http.StatusNotFound)
		absent := decode[errs.Problem](t, w.doAs(me, route[0], replaceID(route[1]), nil), http.StatusNotFound)
		if other.Code != absent.Code || other.Detail != absent.Detail {
			t.Errorf("%s %s: a colleague's answers %+v, an absent one %+v", route[0], route[1], other, absent)
		}
	}
	if p := decode[errs.Problem](t, w.doAs(me, http.MethodDelete, "/api/v1/images/"+image.ID.String(), nil), http.StatusForbidden); p.Meta["permission"] != "image:delete" {
		t.Errorf("the refusal does not name the permission: %+v", p)
	}
	list := decode[struct{ Items []vm.VM }](t, w.doAs(me, http.MethodGet, "/api/v1/vms", nil), http.StatusOK)
	if len(list.Items) != 1 || list.Items[0].ID != mine.TargetID {
		t.Errorf("the owner lists %+v", list.Items)
	}
	for _, filter := range []string{"name=theirs", "state=running"} {
		for _, m := range decode[struct{ Items []vm.VM }](t, w.doAs(me, http.MethodGet, "/api/v1/vms?"+filter, nil), http.StatusOK).Items {
			if m.ID != mine.TargetID {
				t.Errorf("%s shows %+v", filter, m)
			}
		}
	}
	for _, o := range decode[struct{ Items []op }](t, w.doAs(me, http.MethodGet, "/api/v1/operations", nil), http.StatusOK).Items {
		if o.TargetID == their.ID || o.TargetID == image.ID {
			t.Errorf("the owner lists the operation %+v", o)
		}
	}
	if images := decode[struct{ Items []vm.Image }](t, w.doAs(me, http.MethodGet, "/api/v1/images", nil), http.StatusOK); len(images.Items) != 1 {
		t.Errorf("images %+v", images.Items)
	}
	own := "/api/v1/vms/" + mine.TargetID.String()
	decode[vm.VM](t, w.doAs(me, http.MethodGet, own, nil), http.StatusOK)
	decode[struct{ Ticket string }](t, w.doAs(me, http.MethodPost, own+"/console", nil), http.StatusCreated)
	if stopped := decode[op](t, w.doAs(me, http.MethodPost, own+"/stop?wait=60s", map[string]any{"force": true}), http.StatusOK); stopped.Status != "succeeded" {
		t.Errorf("stopped: %+v", stopped)
	}
	decode[op](t, w.doAs(me, http.MethodGet, "/api/v1/operations/"+mine.ID.String(), nil), http.StatusOK)

	// Who may see all and change their own is told what they lack.
	me.Permissions = []string{"vm:read", "vm:*:own"}
	decode[vm.VM](t, w.doAs(me, http.MethodGet, "/api/v1/vms/"+their.ID.String(), nil), http.StatusOK)
	for method, path := range map[string]string{"DELETE": "", "POST": "/stop"} {
		p := decode[errs.Problem](t, w.doAs(me, method, "/api/v1/vms/"+their.ID.String()+path, nil), http.StatusForbidden)
		if want := map[string]string{"DELETE": "vm:delete", "POST": "vm:stop"}[method]; p.Meta["permission"] != want {
			t.Errorf("%s %s: the refusal names %q, not %s", method, path, p.Meta["permission"], want)
		}
	}
	if list := decode[struct{ Items []vm.VM }](t, w.doAs(me, http.MethodGet, "/api/v1/vms", nil), http.StatusOK); len(list.Items) != 2 {
		t.Errorf("who may see all lists %+v", list.Items)
	}
	// To make a machine from an image takes the permission to see it, whether or not it is there.
	for _, id := range []uuid.UUID{image.ID, uuid.New()} {
		p := decode[errs.Problem](t, w.doAs(me, http.MethodPost, "/api/v1/vms", createRequest("third", id)), http.StatusForbidden)
		if p.Meta["permission"] != "image:read" {
			t.Errorf("the refusal names %q, not image:read", p.Meta["permission"])
		}
	}
	gone := decode[op](t, w.doAs(me, http.MethodDelete, own+"?wait=60s", nil), http.StatusOK)
	if gone.Status != "succeeded" {
		t.Errorf("deleted: %+v", gone)
	}
}

// The module tells what it has of a tenant, and takes nothing more once the tenant is closed.
func TestTenantObjects(t *testing.T) {
	w := newWorld(t)
	ask := func(module, phase string, tenant uuid.UUID) map[string]int64 {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		a, err := bus.Call[event.TenantQuestion, event.TenantAnswer](ctx, w.bus, bus.SubjectTenantObjects(module), event.TenantQuestion{TenantID: tenant, Phase: phase})
		if err != nil {
			t.Fatal(err)
		}
		return a.Objects
	}
	image := w.image()
	made := w.create("web-1", image.ID)
	if n := ask("vm", event.TenantAsk, w.tenant.TenantID); n["vms"] != 1 || n["images"] != 1 || n["networks"] != 1 {
		t.Errorf("the vm module has %v", n)
	}
	if n := ask("scheduler", event.TenantAsk, w.tenant.TenantID); n["resource_allocations"] != 1 {
		t.Errorf("the scheduler has %v", n)
	}
	for _, module := range []string{"vm", "scheduler"} {
		for kind, n := range ask(module, event.TenantAsk, uuid.New()) {
			if n != 0 {
				t.Errorf("%s has %d %s of a tenant that has nothing", module, n, kind)
			}
		}
	}
	ask("vm", event.TenantClose, w.tenant.TenantID)
	p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms", createRequest("web-2", image.ID)), http.StatusConflict)
	if p.Code != "tenant.closed" {
		t.Errorf("in a closed tenant: %+v", p)
	}
	if _, err := w.vm.Service().CreateVM(identity.With(t.Context(), w.tenant), vm.CreateVMRequest{Name: "web-2", ImageID: image.ID}); errs.From(err).Code != "tenant.closed" {
		t.Errorf("in a closed tenant, by the contract: %v", err)
	}
	ask("vm", event.TenantOpen, w.tenant.TenantID)
	decode[op](t, w.do(http.MethodDelete, "/api/v1/vms/"+made.TargetID.String()+"?wait=60s", nil), http.StatusOK)
	w.eventually("the module has only image and network", func() bool {
		n := ask("vm", event.TenantAsk, w.tenant.TenantID)
		return n["vms"] == 0 && n["operations"] == 0 && n["images"] == 1 && ask("scheduler", event.TenantForget, w.tenant.TenantID)["resource_allocations"] == 0
	})
}
