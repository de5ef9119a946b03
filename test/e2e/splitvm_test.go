package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/platform/pki"
)

// The vm module with its hypervisor in one process, auth and federation in another, and each asks the other by gRPC over mutual TLS: federation
// lists a guest that runs far away, for the caller whom the gateway beside it let in, and says so when it cannot.
func TestVMInAnotherProcess(t *testing.T) {
	t.Parallel()
	certs := t.TempDir()
	ca, err := pki.Init(certs+"/ca", "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"front", "cloud"} {
		if _, _, err := ca.IssueTo(certs, pki.Request{Name: name, Hosts: []string{"127.0.0.1"}}); err != nil {
			t.Fatal(err)
		}
	}
	api, authRPC, vmRPC := freeAddress(t), freeAddress(t), freeAddress(t)
	front := newProcess(t, "modules: [auth, monitoring, federation, gateway]\nhttp: {listen: "+api+"}\n"+fmt.Sprintf(
		"internal: {cert_file: %[1]s/front.crt, key_file: %[1]s/front.key, ca_file: %[1]s/ca.crt, grpc_listen: %[2]s, peers: [cloud], remotes: [{module: vm, address: %[3]s}]}\n",
		certs, authRPC, vmRPC))
	front.start()
	c := newClient(t, "http://"+api, nil)
	c.until("the front is ready", func() bool { status, _, _ := c.do("GET", "/ready", ""); return status == 200 })
	c.login(front)
	if status, text, _ := c.do("GET", "/api/v1/multicloud/vms", ""); status != 503 || !strings.Contains(text, "internal.unreachable") {
		t.Errorf("before the cloud runs: %d %s", status, text)
	}

	s := newSite(t)
	s.token = c.token // auth of the front says whose it is
	cloud := []string{"NOVACRON_MODULES=scheduler,vm,gateway", "NOVACRON_INTERNAL_CERT_FILE=" + certs + "/cloud.crt", "NOVACRON_INTERNAL_KEY_FILE=" + certs + "/cloud.key",
		"NOVACRON_INTERNAL_CA_FILE=" + certs + "/ca.crt", "NOVACRON_INTERNAL_GRPC_LISTEN=" + vmRPC, "NOVACRON_INTERNAL_PEERS=front",
		fmt.Sprintf(`NOVACRON_INTERNAL_REMOTES=[{"module":"auth","address":%q}]`, authRPC)}
	s.start(cloud...)
	s.upload()
	id := s.create("web-1").TargetID
	lists := func(c *client, want string) func() bool {
		return func() bool {
			status, text, _ := c.do("GET", "/api/v1/multicloud/vms", "")
			return status == 200 && strings.Contains(text, id) && strings.Contains(text, want)
		}
	}
	c.until("the guest is listed", lists(c, `"state":"running"`))
	if status, _, _ := c.do("GET", "/api/v1/vms/"+id, ""); status != 404 {
		t.Errorf("the front answers for vm itself: %d", status)
	}

	// Who is let in at the front is who they are at the vm module.
	status, text, _ := c.do("POST", "/api/v1/tenants", `{"name":"other"}`)
	if status != 201 {
		t.Fatalf("tenant: %d %s", status, text)
	}
	_, rest, _ := strings.Cut(text, `"id":"`)
	tenant, _, _ := strings.Cut(rest, `"`)
	other := *c
	for role, want := range map[string]int{"operator": 200, "user": 403} {
		if status, text, _ := c.do("POST", "/api/v1/users", fmt.Sprintf(`{"username":"ada-%[1]s","password":"correct horse battery","role":%[1]q,"tenant_id":%[2]q}`, role, tenant)); status != 201 {
			t.Fatalf("user: %d %s", status, text)
		}
		other.token = ""
		_, text, _ := other.do("POST", "/auth/login", `{"username":"ada-`+role+`","password":"correct horse battery"}`)
		_, rest, _ := strings.Cut(text, `"access_token":"`)
		other.token, _, _ = strings.Cut(rest, `"`)
		if status, text, _ := other.do("GET", "/api/v1/multicloud/vms", ""); status != want || strings.Contains(text, id) {
			t.Errorf("%s of another tenant: %d %s", role, status, text)
		}
	}

	// What becomes of the guest is seen, and a cloud that is away is no empty one.
	var op operation
	s.must(s.call(http.MethodPost, "/api/v1/vms/"+id+"/stop?wait=60s", map[string]any{"force": true}, &op), http.StatusOK)
	c.until("the guest is listed as stopped", lists(c, `"state":"stopped"`))
	s.stop()
	if status, text, _ := c.do("GET", "/api/v1/multicloud/vms", ""); status != 503 || !strings.Contains(text, "internal.unreachable") {
		t.Errorf("without the cloud: %d %s", status, text)
	}
	s.start(cloud...)
	c.until("the guest is listed again", lists(c, `"state":"stopped"`))
	s.delete(id)
}
