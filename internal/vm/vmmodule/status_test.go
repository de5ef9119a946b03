package vmmodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/cache/redistest"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
)

func openRedis(t *testing.T, server *redistest.Server) cache.Cache {
	t.Helper()
	c, err := cache.NewRedis(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// secondController is another process with the controller role on the same database, which hears nothing of this one's bus and leaves operations and
// events to it.
func (w *world) secondController(kept cache.Cache) http.Handler {
	w.t.Helper()
	cfg := w.vm.cfg
	cfg.Roles, cfg.DataDir, cfg.Owner = []string{RoleController}, w.t.TempDir(), "second"
	b := membus.NewWith(w.t.Context())
	m, err := New(cfg, Deps{Bus: b, Cache: kept, Scheduler: w.sched.Service(), Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := m.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(m.controller.ops.Stop(w.t.Context()), m.controller.relay.Stop(w.t.Context())); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := m.Stop(context.Background()); err != nil {
			w.t.Error(err)
		}
		_ = b.Close()
	})
	return m.Handler()
}

func (w *world) statusOn(handler http.Handler, id uuid.UUID) vm.Status {
	w.t.Helper()
	return decode[vm.Status](w.t, w.doOn(handler, w.tenant, http.MethodGet, "/api/v1/vms/"+id.String()+"/status", nil), http.StatusOK)
}

func (w *world) reads() (hits, misses float64) {
	reads := w.vm.controller.statuses.reads
	return testutil.ToFloat64(reads.WithLabelValues("hit")), testutil.ToFloat64(reads.WithLabelValues("miss"))
}

// A status tells what the row tells, from the cache where it is there, in every process that has the controller role; and whoever did something finds it.
func TestStatus(t *testing.T) {
	server := redistest.Start(t)
	w := newWorldWith(t, func(w *world, _ *Config) { w.cache = openRedis(t, server) })
	here, there := w.vm.Handler(), w.secondController(openRedis(t, server))
	id := w.create("web-1", w.image().ID).TargetID

	full, status := w.get(id), w.statusOn(here, id)
	if status.ID != id || status.Name != "web-1" || status.State != vm.StateRunning || status.DesiredState != vm.DesiredRunning || status.OperationID != nil ||
		*status.NodeID != *full.NodeID || status.Generation != full.Generation || status.TenantID != full.TenantID || status.OwnerID != full.OwnerID ||
		status.Observed.State != "running" || status.Observed.Epoch == 0 || status.Observed.At == nil || status.Revision == 0 || time.Since(status.AsOf) > time.Minute {
		t.Errorf("the status is %+v, the machine %+v", status, full)
	}
	w.eventually("a status is read from the cache, here", func() bool {
		before, _ := w.reads()
		w.statusOn(here, id)
		after, _ := w.reads()
		return after > before
	})

	// Whoever waits for an operation finds what it did, in both processes; those who only look see it soon.
	for _, step := range []struct {
		verb  string
		state vm.State
	}{{"pause", vm.StatePaused}, {"resume", vm.StateRunning}, {"stop", vm.StateStopped}, {"start", vm.StateRunning}} {
		w.act(id, step.verb, nil)
		for name, handler := range map[string]http.Handler{"here": here, "there": there} {
			if s := w.statusOn(handler, id); s.State != step.state || s.OperationID != nil {
				t.Errorf("after %s it is %s %s, with operation %v", step.verb, s.State, name, s.OperationID)
			}
		}
	}
	release := w.driver.Block("Destroy")
	begun := decode[op](t, w.do(http.MethodPost, "/api/v1/vms/"+id.String()+"/stop", map[string]any{"force": true}), http.StatusAccepted)
	for name, handler := range map[string]http.Handler{"here": here, "there": there} {
		if s := w.statusOn(handler, id); s.OperationID == nil || *s.OperationID != begun.ID || s.DesiredState != vm.DesiredStopped {
			t.Errorf("an operation has begun, and %s the status is %+v", name, s)
		}
	}
	release()
	w.eventually("it is off", func() bool { return w.statusOn(there, id).State == vm.StateStopped })
	w.act(id, "start", nil)
	w.driver.Set(id, "stopped", "shutdown", false)
	w.eventually("what the guest did itself is told", func() bool {
		return w.statusOn(there, id).DesiredState == vm.DesiredStopped && w.statusOn(here, id).State == vm.StateStopped
	})
	if _, err := w.vm.controller.pool.Exec(t.Context(), "UPDATE vms SET name = 'renamed' WHERE id = $1", id); err != nil {
		t.Fatal(err)
	}
	w.eventually("what somebody did to the row is told", func() bool { return w.statusOn(there, id).Name == "renamed" })

	w.statusOn(there, id)
	if gone := decode[op](t, w.do(http.MethodDelete, "/api/v1/vms/"+id.String()+"?wait=60s", nil), http.StatusOK); gone.Status != "succeeded" {
		t.Fatalf("deleted: %+v", gone)
	}
	for _, handler := range []http.Handler{here, there} {
		p := decode[errs.Problem](t, w.doOn(handler, w.tenant, http.MethodGet, "/api/v1/vms/"+id.String()+"/status", nil), http.StatusNotFound)
		if p.Code != vm.ErrNotFound.Code {
			t.Errorf("refused as %+v", p)
		}
	}
}

// Statuses of other tenants, and of others than their owner for those who hold no more, are like those that are not there.
func TestStatusesAreTheirTenants(t *testing.T) {
	w := newWorld(t)
	image := w.image().ID
	one, two := w.create("web-1", image).TargetID, w.create("web-2", image).TargetID
	absent := uuid.New()
	ask := func(p identity.Principal, ids ...uuid.UUID) []uuid.UUID {
		t.Helper()
		texts := make([]string, len(ids))
		for i, id := range ids {
			texts[i] = id.String()
		}
		var found []uuid.UUID
		answer := decode[struct{ Items []vm.Status }](t, w.doAs(p, http.MethodGet, "/api/v1/vms/status?ids="+strings.Join(texts, ","), nil), http.StatusOK)
		if answer.Items == nil {
			t.Error("no list is answered")
		}
		for _, s := range answer.Items {
			found = append(found, s.ID)
		}
		return found
	}
	stranger := principal("*")
	colleague := identity.Principal{UserID: uuid.New(), TenantID: w.tenant.TenantID, Scope: identity.ScopeTenant, Permissions: []string{"vm:read:own"}}
	reader := identity.Principal{UserID: uuid.New(), TenantID: w.tenant.TenantID, Scope: identity.ScopeTenant, Permissions: []string{"vm:read"}}
	for range 2 { // from the database, and from the cache
		if found := ask(w.tenant, two, absent, one, two); !slices.Equal(found, []uuid.UUID{two, one}) {
			t.Errorf("the tenant sees %v", found)
		}
		if found := ask(reader, one, two); len(found) != 2 {
			t.Errorf("who may read all of the tenant's sees %v", found)
		}
		for name, p := range map[string]identity.Principal{"a stranger": stranger, "a colleague": colleague} {
			if found := ask(p, one, absent, two); len(found) != 0 {
				t.Errorf("%s sees %v", name, found)
			}
			theirs := w.doAs(p, http.MethodGet, "/api/v1/vms/"+one.String()+"/status", nil)
			nobodys := w.doAs(p, http.MethodGet, "/api/v1/vms/"+absent.String()+"/status", nil)
			a, b := decode[errs.Problem](t, theirs, http.StatusNotFound), decode[errs.Problem](t, nobodys, http.StatusNotFound)
			if a.Code != b.Code || a.Detail != b.Detail {
				t.Errorf("%s is answered %+v, and of an absent one %+v", name, a, b)
			}
		}
	}
	many := strings.TrimSuffix(strings.Repeat(one.String()+",", 201), ",")
	for _, ids := range []string{"?ids=" + many, "?ids=", "", "?ids=web-1", fmt.Sprintf("?ids=%s,,%s", one, two)} {
		w.refused(http.MethodGet, "/api/v1/vms/status"+ids, nil, http.StatusUnprocessableEntity, "request.invalid")
	}
}

// Everything goes on while Redis is away or hangs, and nothing that it kept meanwhile is served for longer than it may be.
func TestStatusWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	w := newWorldWith(t, func(w *world, _ *Config) { w.cache = openRedis(t, server) })
	here, there := w.vm.Handler(), w.secondController(openRedis(t, server))
	id := w.create("web-1", w.image().ID).TargetID
	follows := func() {
		t.Helper()
		for _, step := range []struct {
			verb  string
			state vm.State
		}{{"stop", vm.StateStopped}, {"start", vm.StateRunning}} {
			w.act(id, step.verb, nil)
			for _, handler := range []http.Handler{here, there} {
				if s := w.statusOn(handler, id); s.State != step.state {
					t.Errorf("after %s it is %s", step.verb, s.State)
				}
			}
		}
	}
	follows()
	server.Kill()
	follows()
	if testutil.ToFloat64(w.vm.controller.statuses.failures) == 0 {
		t.Error("that the cache is away is not counted")
	}
	server.Restart()
	w.eventually("the cache is used again", func() bool {
		before, _ := w.reads()
		w.statusOn(here, id)
		after, _ := w.reads()
		return after > before
	})
	follows()

	w.statusOn(here, id)
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.act(id, "stop", nil)
	if s := w.statusOn(there, id); s.State != vm.StateStopped {
		t.Errorf("while the cache hangs it is %s", s.State)
	}
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.eventually("what the cache kept from before is over", func() bool {
		s := w.statusOn(there, id)
		if s.State == vm.StateRunning && time.Since(s.AsOf) > 5*time.Second+time.Minute { // the minute is the machine's, which may be slow
			t.Errorf("served %v old", time.Since(s.AsOf))
		}
		return s.State == vm.StateStopped && w.statusOn(here, id).State == vm.StateStopped
	})
}
