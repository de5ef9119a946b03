package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/gateway/gatewaytest"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/logx"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// built gives all modules, built but not started: nothing of the host is touched.
func built(t *testing.T) *builder {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.Database.URL = t.TempDir(), "postgres://not-used"
	cfg.Modules = []string{"auth", "vm", "federation", "monitoring", "scheduler", "gateway"}
	cfg.Node.Name = "test"
	log, _, err := logx.New(logx.Options{Writer: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := telemetry.NewRegistry(telemetry.Build{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	b, shared := membus.New(), cache.NewMemory(1000)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := shared.Close(); err != nil {
			t.Error(err)
		}
	})
	build := &builder{cfg: cfg, log: log, bus: b, cache: shared, registry: registry}
	if _, err := build.modules(); err != nil {
		t.Fatal(err)
	}
	return build
}

// TestEveryRouteHasAPermissionAndADocumentation walks what is really served.
func TestEveryRouteHasAPermissionAndADocumentation(t *testing.T) {
	b := built(t)
	surfaces := b.gateway.Surfaces()
	for _, err := range gatewaytest.CheckRoutes(surfaces) {
		t.Error(err)
	}
	public := map[string]bool{"/health": true, "/ready": true, "/metrics": true, "/docs": true, "/docs/errors": true, "/docs/{file}": true, "/api/v1/info": true, "/api/v1/vms/{id}/console/ws": true,
		"/api/v1/openapi.json": true, "/api/v1/openapi.yaml": true, "/auth/login": true, "/auth/refresh": true, "/auth/register": true,
		"/auth/login/mfa": true, "/auth/password/forgot": true, "/auth/password/reset": true, "/auth/password/reset/form": true, "/.well-known/jwks.json": true}
	n := 0
	for _, s := range surfaces {
		for _, r := range s.Routes() {
			n++
			if r.Permission == identity.Public && !public[r.Path] {
				t.Errorf("%s %s is open to everybody; if that is meant, add it to the list here", r.Method, r.Path)
			}
			if r.Permission != identity.Public && r.Permission != identity.Authenticated && !strings.Contains(r.Permission, ":") {
				t.Errorf("%s %s needs %q, which is no <resource>:<verb>", r.Method, r.Path, r.Permission)
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d routes", n)
	}
}

// TestOpenAPIDocumentIsWhole: every reference of the merged document leads somewhere.
func TestOpenAPIDocumentIsWhole(t *testing.T) {
	spec := string(built(t).gateway.Spec())
	var doc struct {
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(spec), &doc); err != nil {
		t.Fatal(err)
	}
	for _, ref := range strings.Split(spec, `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("the schema %s is referred to, but missing", name)
		}
	}
}

// TestListsTakeTheParametersOfLists: a client that knows one list knows them all. The exceptions say that they are never cut to pages.
func TestListsTakeTheParametersOfLists(t *testing.T) {
	whole := []string{"/api/v1/me/tenants", "/api/v1/permissions", "/api/v1/signing-keys", "/api/v1/gateway/routes", "/api/v1/multicloud/providers"}
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(built(t).gateway.Spec(), &doc); err != nil {
		t.Fatal(err)
	}
	lists := 0
	for path, methods := range doc.Paths {
		if methods["get"] == nil || slices.Contains(whole, path) {
			continue
		}
		var get struct {
			Parameters []struct{ Name string }
			Responses  map[string]struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
		}
		if err := json.Unmarshal(methods["get"], &get); err != nil {
			t.Fatal(err)
		}
		if name := get.Responses["200"].Content["application/json"].Schema.Ref; !strings.Contains(name, "Page") {
			continue
		}
		lists++
		for _, want := range []string{"limit", "cursor", "fields"} {
			if !slices.ContainsFunc(get.Parameters, func(p struct{ Name string }) bool { return p.Name == want }) {
				t.Errorf("GET %s does not take %q", path, want)
			}
		}
	}
	if lists < 25 {
		t.Errorf("only %d lists", lists)
	}
}

// TestPagesMaySendEveryHeader: what the document says that a request may carry, pages of the origins that are let in may send.
func TestPagesMaySendEveryHeader(t *testing.T) {
	b := built(t)
	cfg := b.cfg.GatewayModule()
	cfg.Origins = []string{"https://ui.example.org"}
	if err := b.gateway.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct{ Parameters []struct{ Name, In string } }
	}
	if err := json.Unmarshal(b.gateway.Spec(), &doc); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{"Authorization": true, "X-API-Key": true, "Idempotency-Key": true, "If-None-Match": true, "X-Tenant-ID": true}
	for _, methods := range doc.Paths {
		for _, op := range methods {
			for _, p := range op.Parameters {
				names[p.Name] = names[p.Name] || p.In == "header"
			}
		}
	}
	for name, header := range names {
		if !header {
			continue
		}
		r := httptest.NewRequest(http.MethodOptions, "/api/v1/images", nil)
		r.Header.Set("Origin", "https://ui.example.org")
		r.Header.Set("Access-Control-Request-Method", http.MethodPut)
		r.Header.Set("Access-Control-Request-Headers", strings.ToLower(name))
		w := httptest.NewRecorder()
		b.gateway.Edge().ServeHTTP(w, r)
		if w.Header().Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("the header %s is not let through", name)
		}
	}
}

// What a gateway sends again because it has an Idempotency-Key must be remembered by the module: not where the answer is secret, and not where
// the module remembers nothing.
func TestRoutesThatRememberKeys(t *testing.T) {
	keyed := map[string]bool{}
	for _, s := range built(t).gateway.Surfaces() {
		for _, r := range s.Routes() {
			keyed[r.OperationID] = r.Keyed
		}
	}
	for id, want := range map[string]bool{
		"vm-create": true, "vm-start": true, "volume-create": true, "tenant-create": true, "role-create": true,
		"api-key-create": false, "api-key-rotate": false, "user-create": false, "user-one-time-password": false, "webhook-create": false, "vm-console-open": false, // secret
		"scheduler-placement-try": false, "vm-list": false, "image-upload": false,
	} {
		if got, ok := keyed[id]; !ok || got != want {
			t.Errorf("%s: keyed is %v (there: %v), want %v", id, got, ok, want)
		}
	}
}

// What an object costs does not hang on how its path is written.
func TestObjectsCostLessThanLists(t *testing.T) {
	b := built(t)
	lists := map[string]bool{}
	for _, s := range b.gateway.Surfaces() {
		for _, r := range s.Routes() {
			if r.Method == http.MethodGet {
				lists[r.Path] = r.Lists
			}
		}
	}
	for path, want := range map[string]bool{"/api/v1/me": false, "/api/v1/info": false, "/api/v1/vms/{id}": false, "/api/v1/vms/{id}/status": false, "/api/v1/scheduler/quota": false,
		"/api/v1/vms": true, "/api/v1/users": true, "/api/v1/nodes": true, "/api/v1/gateway/routes": true, "/api/v1/flavors": true, "/api/v1/api-keys": true} {
		if got, ok := lists[path]; !ok || got != want {
			t.Errorf("%s: a list is %v (there: %v), want %v", path, got, ok, want)
		}
	}
}
