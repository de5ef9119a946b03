package federationmodule

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/federation"
	"github.com/novacron/novacron/internal/monitoring"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmtest"
)

type health struct{ status string }

func (h health) GetHealth(context.Context, monitoring.GetHealthRequest) (monitoring.GetHealthResponse, error) {
	return monitoring.GetHealthResponse{Health: monitoring.Health{Status: h.status}}, nil
}

func get(t *testing.T, m *Module, path string, p identity.Principal) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r.WithContext(identity.With(t.Context(), p)))
	return w
}

func TestListPagesThroughAllVMs(t *testing.T) {
	vms, p := vmtest.New(), identity.Principal{UserID: uuid.New(), TenantID: uuid.New(), Permissions: []string{"*"}, Scope: identity.ScopeTenant}
	image := vms.AddImage(p.TenantID)
	for _, name := range []string{"e", "d", "c", "b", "a"} {
		if _, err := vms.CreateVM(identity.With(t.Context(), p), vm.CreateVMRequest{Name: name, ImageID: image, Resources: vm.Resources{VCPUs: 1, MemoryMiB: 64, DiskGiB: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := New(Deps{VM: vms, Monitoring: health{"degraded"}})
	if err != nil {
		t.Fatal(err)
	}
	var names, cursor string
	for range 4 {
		w := get(t, m, "/api/v1/multicloud/vms?limit=2&cursor="+cursor, p)
		var page httpx.Page[federation.VM]
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != http.StatusOK {
			t.Fatalf("got %d %s: %v", w.Code, w.Body, err)
		}
		for _, item := range page.Items {
			names += item.Name
			if item.ProviderID != federation.ProviderLocal || item.State != "running" || item.VCPUs != 1 || item.MemoryMiB != 64 {
				t.Errorf("listed %+v", item)
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if names != "abcde" {
		t.Errorf("listed %q, want abcde", names)
	}
	var page httpx.Page[federation.Provider]
	if err := json.Unmarshal(get(t, m, "/api/v1/multicloud/providers", p).Body.Bytes(), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 1 || page.Items[0].HealthStatus != "degraded" {
		t.Errorf("providers are %+v", page.Items)
	}
}

func TestListRefuses(t *testing.T) {
	m, err := New(Deps{VM: vmtest.New(), Monitoring: health{"healthy"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path, permission, code string
		status                 int
	}{
		"no permission":  {"/api/v1/multicloud/vms", "vm:read", "auth.forbidden", 403},
		"not vm's":       {"/api/v1/multicloud/vms", "multicloud:read", "auth.forbidden", 403},
		"bad cursor":     {"/api/v1/multicloud/vms?cursor=x", "multicloud:read", "request.invalid_cursor", 422},
		"limit of zero":  {"/api/v1/multicloud/vms?limit=0", "multicloud:read", "request.invalid", 422},
		"unknown filter": {"/api/v1/multicloud/vms?colour=red", "multicloud:read", "request.invalid", 422},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(t, m, test.path, identity.Principal{Permissions: []string{test.permission}})
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
