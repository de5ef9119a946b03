package vmmodule

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/federation/federationmodule"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/monitoring/monitoringmodule"
	"github.com/novacron/novacron/internal/platform/cache"
)

// cloud is every module behind the real gateway, on one database, with a hypervisor in memory.
type cloud struct {
	*world
	url  string
	edge http.Handler
	spec []byte
	root credential
	made int // party by party, so that their networks do not overlap
}

// credential is how a caller proves who it is.
type credential struct{ name, header, value string }

// party is a tenant with one object of every kind.
type party struct {
	name    string // in the name of each of its objects, and in nothing else
	ids     map[string]string
	key     string
	callers []credential // its administrator first
	parent  *party
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{}
	c.world = newWorldWith(t, func(_ *world, cfg *Config) { c.url = cfg.DatabaseURL })
	log := slog.New(slog.DiscardHandler)
	shared := cache.NewMemory(10_000)
	t.Cleanup(func() { _ = shared.Close() })

	ac := authmodule.Default()
	ac.DataDir, ac.DatabaseURL, ac.MaxConns = t.TempDir(), c.url, 4
	ac.PasswordMemoryKiB, ac.PasswordIterations = 64, 1 // so that logins are quick
	authm, err := authmodule.New(ac, authmodule.Deps{Bus: c.bus, Cache: shared, Log: log, Registerer: prometheus.NewRegistry(),
		TenantHolders: []string{"vm", "scheduler"}, AuditSources: []string{"vm", "scheduler"}})
	if err != nil {
		t.Fatal(err)
	}
	mon, err := monitoringmodule.New(monitoringmodule.Default(), monitoringmodule.Deps{Bus: c.bus, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	fed, err := federationmodule.New(federationmodule.Deps{VM: c.vm.Service(), Monitoring: mon})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []interface {
		Start(context.Context) error
		Stop(context.Context) error
	}{authm, mon, fed} {
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	reg := prometheus.NewRegistry()
	gw, err := gatewaymodule.New(gatewaymodule.Default(), gatewaymodule.Deps{Auth: authm.Service(), Gatherer: reg, Log: log, Bus: c.bus,
		Surfaces: []gatewaymodule.Surface{authm, mon, c.sched, c.vm, fed}})
	if err != nil {
		t.Fatal(err)
	}
	c.edge, c.spec = gw.Edge(), gw.Spec()
	password, err := os.ReadFile(filepath.Join(ac.DataDir, "initial-admin-password"))
	if err != nil {
		t.Fatal(err)
	}
	c.root = c.login("admin", strings.TrimSpace(string(password)))
	return c
}

func (c *cloud) login(user, password string) credential {
	c.t.Helper()
	rec := c.send(credential{}, http.MethodPost, "/auth/login", object{"username": user, "password": password})
	return credential{user, "Authorization", "Bearer " + decode[struct {
		Token string `json:"access_token"`
	}](c.t, rec, http.StatusOK).Token}
}

// send makes a request of the gateway, as from outside.
func (c *cloud) send(as credential, method, path string, body any, headers ...string) *httptest.ResponseRecorder {
	var reader io.Reader
	contentType := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		reader, contentType = bytes.NewReader(b), "application/octet-stream"
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		reader = bytes.NewReader(encoded)
	}
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, reader)
	r.RemoteAddr = "192.0.2.1:4711"
	if body != nil {
		r.Header.Set("Content-Type", contentType)
	}
	if as.header != "" {
		r.Header.Set(as.header, as.value)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	c.edge.ServeHTTP(rec, r)
	return rec
}

// madeObject is what the tests need of whatever was made: an object, or an operation that has ended.
type madeObject struct {
	ID       string `json:"id"`
	TargetID string `json:"target_id"`
	Status   any    `json:"status"` // a number in the audit
	Key      string `json:"key"`
}

func (c *cloud) must(as credential, method, path string, body any, headers ...string) madeObject {
	c.t.Helper()
	rec := c.send(as, method, path, body, headers...)
	if rec.Code >= 300 {
		c.t.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
	o := decode[madeObject](c.t, rec, rec.Code)
	if o.Status == "failed" {
		c.t.Fatalf("%s %s: %s", method, path, rec.Body)
	}
	return o
}

// first gives the id of the first of a list, once there is one.
func (c *cloud) first(as credential, path string) (id string) {
	c.t.Helper()
	c.eventually("something in "+path, func() bool {
		items := decode[struct{ Items []madeObject }](c.t, c.send(as, http.MethodGet, path, nil), http.StatusOK).Items
		if len(items) > 0 {
			id = items[0].ID
		}
		return id != ""
	})
	return id
}

// populate makes a tenant with an object of every kind. A new kind of object is made here and named in kinds.
func (c *cloud) populate(colour string, parent *party, image []byte) *party {
	c.t.Helper()
	c.made++
	p := &party{name: colour + strings.ReplaceAll(uuid.NewString(), "-", "")[:10], ids: map[string]string{}, parent: parent}
	tenant := object{"name": p.name}
	if parent != nil {
		tenant["parent_id"] = parent.ids["tenant"]
	}
	p.ids["tenant"] = c.must(c.root, http.MethodPost, "/api/v1/tenants", tenant).ID
	const password = "correct horse battery staple"
	for _, role := range []string{"viewer", "user", "operator"} {
		id := c.must(c.root, http.MethodPost, "/api/v1/users", object{"username": p.name + role, "password": password, "role": role, "tenant_id": p.ids["tenant"]}).ID
		if role == "viewer" {
			c.must(c.root, http.MethodPost, "/api/v1/role-bindings", object{"principal_id": id, "role": "admin"}, "X-Tenant-ID", p.ids["tenant"])
		}
		p.ids["user"] = id // the last one, who is nobody's caller
	}
	admin := c.login(p.name+"viewer", password)
	c.login(p.name+"operator", password)
	p.ids["session"] = c.first(admin, "/api/v1/users/"+p.ids["user"]+"/sessions")
	key := c.must(admin, http.MethodPost, "/api/v1/api-keys", object{"name": p.name})
	p.ids["api-key"], p.key = key.ID, key.Key
	p.callers = []credential{admin, c.login(p.name+"user", password), {p.name + " API key", "X-API-Key", key.Key}}

	add := func(kind, path string, body any) string {
		c.t.Helper()
		o := c.must(admin, http.MethodPost, path, body)
		if p.ids[kind] = o.ID; o.TargetID != "" {
			p.ids[kind], p.ids["operation"] = o.TargetID, o.ID
		}
		return p.ids[kind]
	}
	add("service-account", "/api/v1/service-accounts", object{"name": p.name + "-robot", "role": "user"})
	add("role", "/api/v1/roles", object{"name": p.name, "permissions": []string{"vm:read"}})
	add("role-binding", "/api/v1/role-bindings", object{"principal_id": p.ids["user"], "role": p.name})
	add("image", "/api/v1/images?name="+p.name, image)
	add("network", "/api/v1/networks", object{"name": p.name, "cidr": "10.21" + string(rune('0'+c.made)) + ".1.0/24"})
	group := "/api/v1/security-groups/" + add("security-group", "/api/v1/security-groups", object{"name": p.name})
	add("rule", group+"/rules", object{"direction": "ingress", "protocol": "tcp", "port_min": 80, "remote_group_id": p.ids["security-group"]})
	p.ids["rule"] = decode[struct{ Rules []madeObject }](c.t, c.send(admin, http.MethodGet, group, nil), http.StatusOK).Rules[0].ID
	add("volume", "/api/v1/volumes?wait=60s", object{"name": p.name, "size_gib": 1})
	body := createRequest(p.name, uuid.MustParse(p.ids["image"]))
	body["networks"] = []object{{"network_id": p.ids["network"], "security_groups": []string{p.ids["security-group"]}}}
	machine := "/api/v1/vms/" + add("vm", "/api/v1/vms?wait=60s", body)
	p.ids["interface"] = c.first(admin, machine+"/interfaces")
	c.must(admin, http.MethodPost, machine+"/disks?wait=60s", object{"volume_id": p.ids["volume"]})
	add("snapshot", machine+"/snapshots?wait=60s", object{"name": p.name})
	add("port-forward", "/api/v1/port-forwards", object{"vm_id": p.ids["vm"], "guest_port": 80})
	add("ssh-key", "/api/v1/ssh-keys", object{"name": p.name, "public_key": publicKey})
	add("template", "/api/v1/templates", object{"name": p.name, "vm_id": p.ids["vm"]})
	hook := "/api/v1/webhooks/" + add("webhook", "/api/v1/webhooks", object{"name": p.name, "url": "https://hooks.invalid/", "enabled": false})
	p.ids["delivery"] = c.must(admin, http.MethodPost, hook+"/test", nil).ID
	p.ids["audit-record"] = c.first(admin, "/api/v1/audit/records")
	// These belong to the installation, which no tenant sees.
	p.ids["node"], p.ids["storage-pool"] = c.first(c.root, "/api/v1/nodes"), c.first(c.root, "/api/v1/storage-pools")
	return p
}

// rowsOf gives every row of every schema that names one of the party's objects, but for the journals of what was tried: of requests (idempotency),
// of events, and of the audit, which name what strangers asked for.
func (c *cloud) rowsOf(p *party) map[string]bool {
	c.t.Helper()
	ids := []string{}
	for kind, id := range p.ids {
		if kind != "node" && kind != "storage-pool" {
			ids = append(ids, id)
		}
	}
	conn, err := pgx.Connect(c.t.Context(), c.url)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	strs := func(sql string, args ...any) []string {
		rows, err := conn.Query(c.t.Context(), sql, args...)
		if err != nil {
			c.t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			c.t.Fatal(err)
		}
		return list
	}
	found := map[string]bool{}
	for _, table := range strs(`SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables WHERE table_type = 'BASE TABLE'
		AND table_schema IN ('auth', 'vm', 'scheduler') AND table_name NOT IN ('outbox', 'idempotency_keys', 'audit_intents', 'audit_log') AND table_name NOT LIKE 'river%'`) {
		// What a volume takes on its node is measured every minute, whoever asks for what.
		for _, row := range strs(`SELECT r FROM (SELECT (to_jsonb(t) - 'allocated_bytes')::text AS r FROM `+table+` t) x WHERE r LIKE ANY (SELECT '%' || unnest($1::text[]) || '%')`, ids) {
			found[table+" "+row] = true
		}
	}
	return found
}
