package federationmodule

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/federation"
	"github.com/novacron/novacron/internal/monitoring"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
)

// machines is a vm module that holds a few virtual machines, newest first.
type machines struct {
	vm.Service
	list []vm.VM
}

func (m machines) ListVMs(_ context.Context, req vm.ListVMsRequest) (vm.ListVMsResponse, error) {
	rest := m.list
	for len(rest) > 0 && !req.AfterTime.IsZero() && !rest[0].CreatedAt.Before(req.AfterTime) {
		rest = rest[1:]
	}
	n := min(req.Limit, len(rest))
	return vm.ListVMsResponse{VMs: rest[:n], More: len(rest) > n}, nil
}

type health struct{ status string }

func (h health) GetHealth(context.Context, monitoring.GetHealthRequest) (monitoring.GetHealthResponse, error) {
	return monitoring.GetHealthResponse{Health: monitoring.Health{Status: h.status}}, nil
}

func get(t *testing.T, m *Module, path string, permissions ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r.WithContext(identity.With(t.Context(), identity.Principal{Permissions: permissions})))
	return w
}

func TestListPagesThroughAllVMs(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	list := []vm.VM{}
	for i := range 5 {
		list = append(list, vm.VM{ID: uuid.New(), Name: string(rune('a' + i)), State: vm.StateRunning, CreatedAt: now.Add(-time.Duration(i) * time.Second)})
	}
	m, err := New(Deps{VM: machines{list: list}, Monitoring: health{"degraded"}})
	if err != nil {
		t.Fatal(err)
	}
	var names, cursor string
	for range 4 {
		w := get(t, m, "/api/v1/multicloud/vms?limit=2&cursor="+cursor, "multicloud:read")
		var page httpx.Page[federation.VM]
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != http.StatusOK {
			t.Fatalf("got %d %s: %v", w.Code, w.Body, err)
		}
		for _, item := range page.Items {
			names += item.Name
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if names != "abcde" {
		t.Errorf("listed %q, want abcde", names)
	}
	var page httpx.Page[federation.Provider]
	if err := json.Unmarshal(get(t, m, "/api/v1/multicloud/providers", "multicloud:read").Body.Bytes(), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 1 || page.Items[0].HealthStatus != "degraded" {
		t.Errorf("providers are %+v", page.Items)
	}
}

func TestListRefuses(t *testing.T) {
	m, err := New(Deps{VM: machines{}, Monitoring: health{"healthy"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path, permission, code string
		status                 int
	}{
		"no permission":  {"/api/v1/multicloud/vms", "vm:read", "auth.forbidden", 403},
		"bad cursor":     {"/api/v1/multicloud/vms?cursor=x", "multicloud:read", "request.invalid_cursor", 422},
		"limit of zero":  {"/api/v1/multicloud/vms?limit=0", "multicloud:read", "request.invalid", 422},
		"unknown filter": {"/api/v1/multicloud/vms?colour=red", "multicloud:read", "request.invalid", 422},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(t, m, test.path, test.permission)
			var p errs.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatalf("no problem document: %s", w.Body)
			}
			if w.Code != test.status || p.Code != test.code {
				t.Errorf("got %d %s, want %d %s", w.Code, p.Code, test.status, test.code)
			}
		})
	}
}
