package schedulermodule_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/schedulertest"
)

// TestEveryRoute calls each route without credentials and without permissions.
func TestEveryRoute(t *testing.T) {
	r := newRig(t)
	raw, err := r.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Permission string `json:"x-permission"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	for _, route := range r.Routes() {
		if got := doc.Paths[route.Path][strings.ToLower(route.Method)].Permission; got != route.Permission || got == "" {
			t.Errorf("%s %s is documented with permission %q, has %q", route.Method, route.Path, got, route.Permission)
		}
		path := strings.ReplaceAll(route.Path, "{id}", uuid.NewString())
		r.expect(401, "auth.unauthenticated", nil, route.Method, path, nil)
		r.expect(403, "auth.forbidden", nobody, route.Method, path, nil)
	}
}

func TestNodeRoutes(t *testing.T) {
	r := newRig(t)
	var ids []string
	for i := range 3 {
		h := schedulertest.Heartbeat(fmt.Sprintf("kvm-%d", i), 2, 4*gib, 100*gib)
		ids = append(ids, h.NodeID.String())
		r.register(h)
	}
	page := r.expect(200, "", admin, "GET", "/api/v1/nodes?limit=2", nil)
	items := page.Body["items"].([]any)
	cursor, _ := page.Body["next_cursor"].(string)
	if len(items) != 2 || items[0].(map[string]any)["name"] != "kvm-2" || cursor == "" {
		t.Fatalf("first page %v", page.Body)
	}
	page = r.expect(200, "", admin, "GET", "/api/v1/nodes?limit=2&cursor="+cursor, nil)
	if items = page.Body["items"].([]any); len(items) != 1 || items[0].(map[string]any)["name"] != "kvm-0" || page.Body["next_cursor"] != nil {
		t.Fatalf("last page %v", page.Body)
	}
	r.expect(422, "request.invalid_cursor", admin, "GET", "/api/v1/nodes?cursor=nonsense", nil)
	r.expect(422, "request.invalid", admin, "GET", "/api/v1/nodes?limit=501", nil)
	r.expect(422, "request.invalid", admin, "GET", "/api/v1/nodes?colour=red", nil)

	path := "/api/v1/nodes/" + ids[0]
	got := r.expect(200, "", admin, "GET", path, nil)
	tag := got.Header.Get("ETag")
	limits := got.Body["limits"].(map[string]any)
	if tag != `"1"` || got.Body["state"] != "ready" || limits["vcpus"] != 32.0 || got.Body["id"] != ids[0] {
		t.Errorf("node %v, ETag %s", got.Body, tag)
	}
	r.expect(404, "scheduler.node_not_found", admin, "GET", "/api/v1/nodes/"+uuid.NewString(), nil)
	r.expect(422, "request.invalid", admin, "GET", "/api/v1/nodes/kvm-0", nil)
	r.expect(405, "route.method_not_allowed", admin, "PUT", path, nil)

	labels := func(body any, header ...string) answer {
		return r.call(admin, "PATCH", path, body, header...)
	}
	if a := labels(`{"labels":{"rack":"b7","old":"x"}}`, "If-Match", tag); a.Status != 200 || a.Header.Get("ETag") != `"2"` || a.Body["labels"].(map[string]any)["rack"] != "b7" {
		t.Errorf("labelled %v", a)
	}
	if a := labels(`{"labels":{"old":null}}`, "If-Match", "*"); a.Status != 200 || len(a.Body["labels"].(map[string]any)) != 1 {
		t.Errorf("unlabelled %v", a)
	}
	for _, stale := range []string{tag, "nonsense", `W/"3"`} {
		r.expect(412, "scheduler.version_mismatch", admin, "PATCH", path, `{"labels":{}}`, "If-Match", stale)
	}
	r.expect(404, "scheduler.node_not_found", admin, "PATCH", "/api/v1/nodes/"+uuid.NewString(), `{"labels":{}}`, "If-Match", "nonsense")
	r.expect(422, "scheduler.invalid", admin, "PATCH", path, `{"labels":{"":"x"}}`)
	for _, body := range []string{`{}`, `{"labels":{"a":1}}`, `{"labels":{},"name":"x"}`, `{"labels":"x"}`, `{"labels":{"a":"\u0000"}}`} {
		r.expect(422, "request.invalid", admin, "PATCH", path, body)
	}
	r.expect(400, "request.malformed", admin, "PATCH", path, `{"labels":`)

	for range 2 { // both may be repeated
		if a := r.expect(200, "", admin, "POST", path+"/cordon", nil); a.Body["cordoned"] != true || a.Header.Get("ETag") != `"4"` {
			t.Errorf("cordoned %v", a)
		}
	}
	if a := r.expect(200, "", admin, "POST", path+"/uncordon", nil); a.Body["cordoned"] != false {
		t.Errorf("uncordoned %v", a)
	}
	r.expect(404, "scheduler.node_not_found", admin, "POST", "/api/v1/nodes/"+uuid.NewString()+"/cordon", nil)
}

func TestPlacementRoutes(t *testing.T) {
	r := newRig(t)
	path := "/api/v1/scheduler/placements"
	if a := r.expect(200, "", admin, "POST", path, `{"vcpus":1,"memory_bytes":1}`); a.Body["fits"] != false || len(a.Body["nodes"].([]any)) != 0 || a.Body["advice"] == "" {
		t.Errorf("without nodes %v", a.Body)
	}
	r.register(schedulertest.Heartbeat("kvm-1", 2, 4*gib, 100*gib))
	if a := r.expect(200, "", admin, "POST", path, `{"vcpus":1,"memory_bytes":1}`); a.Body["fits"] != true || a.Body["node_name"] != "kvm-1" {
		t.Errorf("fits %v", a.Body)
	}
	a := r.expect(200, "", operator, "POST", path, `{"vcpus":33,"memory_bytes":1,"hypervisor_type":"lxc"}`)
	if text := fmt.Sprint(a.Body); a.Body["fits"] != false || strings.Contains(text, "kvm-1") || strings.Contains(text, "32") {
		t.Errorf("an operator learns %v", a.Body)
	}
	for _, body := range []string{`{}`, `{"vcpus":0,"memory_bytes":1}`, `{"vcpus":1,"memory_bytes":-1}`, `{"vcpus":1,"memory_bytes":1,"hypervisor_type":"xen"}`,
		`{"vcpus":"1","memory_bytes":1}`, `{"vcpus":1,"memory_bytes":99999999999999999999}`, `{"vcpus":1.5,"memory_bytes":1}`} {
		r.expect(422, "request.invalid", admin, "POST", path, body)
	}
}

func TestAllocationRoute(t *testing.T) {
	r := newRig(t)
	h := schedulertest.Heartbeat("kvm-1", 2, 16*gib, 100*gib)
	r.register(h)
	var own []string
	for _, tenant := range []uuid.UUID{operator.TenantID, operator.TenantID, admin.TenantID} {
		req := schedulertest.Request(tenant)
		if _, err := r.Service().Reserve(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if tenant == operator.TenantID {
			own = append(own, req.VMID.String())
		}
	}
	path := "/api/v1/scheduler/allocations"
	items := r.expect(200, "", operator, "GET", path, nil).Body["items"].([]any)
	if len(items) != 2 || items[0].(map[string]any)["vm_id"] != own[1] || items[0].(map[string]any)["status"] != "reserved" {
		t.Errorf("an operator sees %v", items)
	}
	page := r.expect(200, "", operator, "GET", path+"?limit=1", nil)
	page = r.expect(200, "", operator, "GET", path+"?limit=1&cursor="+page.Body["next_cursor"].(string), nil)
	if items = page.Body["items"].([]any); len(items) != 1 || items[0].(map[string]any)["vm_id"] != own[0] || page.Body["next_cursor"] != nil {
		t.Errorf("second page %v", page.Body)
	}
	r.expect(403, "scheduler.platform_only", operator, "GET", path+"?tenant_id=all", nil)
	for query, want := range map[string]int{"": 1, "?tenant_id=all": 3, "?tenant_id=all&node_id=" + h.NodeID.String(): 3, "?tenant_id=all&node_id=" + uuid.NewString(): 0} {
		if items := r.expect(200, "", admin, "GET", path+query, nil).Body["items"].([]any); len(items) != want {
			t.Errorf("%q: an administrator sees %d, want %d", query, len(items), want)
		}
	}
	r.expect(422, "request.invalid", admin, "GET", path+"?node_id=kvm-1", nil)
}

func TestQuotaRoutes(t *testing.T) {
	r := newRig(t)
	r.register(schedulertest.Heartbeat("kvm-1", 2, 16*gib, 100*gib))
	path := "/api/v1/tenants/" + operator.TenantID.String() + "/quota"
	a := r.expect(200, "", admin, "GET", path, nil)
	if a.Header.Get("ETag") != `"0"` || a.Body["default"] != true {
		t.Errorf("default %v", a)
	}
	limits := `{"vcpus":2,"memory_bytes":0,"storage_bytes":0,"vms":0}`
	r.expect(403, "auth.forbidden", operator, "PUT", path, limits)
	if a = r.expect(200, "", admin, "PUT", path, limits, "If-Match", `"0"`); a.Header.Get("ETag") != `"1"` || a.Body["default"] != false {
		t.Errorf("set %v", a)
	}
	r.expect(412, "scheduler.version_mismatch", admin, "PUT", path, limits, "If-Match", `"0"`)
	for _, body := range []string{`{}`, `{"vcpus":-1,"memory_bytes":0,"storage_bytes":0,"vms":0}`, `{"vcpus":1,"memory_bytes":0,"storage_bytes":0,"vms":0,"cats":1}`} {
		r.expect(422, "request.invalid", admin, "PUT", path, body)
	}
	req := schedulertest.Request(operator.TenantID)
	if _, err := r.Service().Reserve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, "/api/v1/scheduler/quota"} {
		a = r.expect(200, "", operator, "GET", path, nil)
		usage := a.Body["usage"].(map[string]any)
		if a.Body["tenant_id"] != operator.TenantID.String() || a.Body["limits"].(map[string]any)["vcpus"] != 2.0 || usage["vcpus"] != 1.0 || usage["memory_bytes"] != float64(gib) {
			t.Errorf("%s: %v", path, a.Body)
		}
	}
	r.expect(404, "scheduler.tenant_not_found", operator, "GET", "/api/v1/tenants/"+admin.TenantID.String()+"/quota", nil)
	if _, err := r.Service().Release(t.Context(), scheduler.ReleaseRequest{VMID: req.VMID}); err != nil {
		t.Fatal(err)
	}
	if a = r.expect(200, "", operator, "GET", "/api/v1/scheduler/quota", nil); a.Body["usage"].(map[string]any)["vcpus"] != 0.0 {
		t.Errorf("after release %v", a.Body)
	}
}
