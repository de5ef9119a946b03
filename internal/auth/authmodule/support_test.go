package authmodule_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.Wrap(m))
}

// clock is the system's, and can be put forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// site is an installation: a database, a data folder, a cache and a bus, which any number of processes may share.
type site struct {
	clock *clock
	cfg   authmodule.Config
	cache *sharedCache
	bus   bus.Bus
	// holders are the modules that are asked before a tenant is deleted.
	holders []string
	mail    authmodule.Mailer // nil: none
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{clock: &clock{}, cfg: authmodule.Default(), cache: newSharedCache(), bus: membus.New()}
	t.Cleanup(func() {
		if err := s.bus.Close(); err != nil {
			t.Error(err)
		}
	})
	s.cfg.DataDir = t.TempDir()
	s.cfg.DatabaseURL = pgtest.New(t).URL
	s.cfg.MaxConns = 4
	s.cfg.PasswordMemoryKiB, s.cfg.PasswordIterations = 64, 1 // so that tests of everything else are quick
	return s
}

// process is one auth module of the site, started, behind something like the gateway.
type process struct {
	t      testing.TB
	site   *site
	module *authmodule.Module
	http   http.Handler
	reg    *prometheus.Registry
}

func (s *site) build(t testing.TB) *process { return s.buildWith(t, nil) }

func (s *site) buildWith(t testing.TB, change func(*authmodule.Deps)) *process {
	t.Helper()
	reg := prometheus.NewRegistry()
	deps := authmodule.Deps{
		Bus: s.bus, Cache: s.cache, Log: slog.New(slog.DiscardHandler), Registerer: reg, Now: s.clock.now, TenantHolders: s.holders, Mail: s.mail,
	}
	if change != nil {
		change(&deps)
	}
	m, err := authmodule.New(s.cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return &process{t: t, site: s, module: m, http: gateway(m), reg: reg}
}

func (s *site) start(t testing.TB) *process { return s.startWith(t, nil) }

func (s *site) startWith(t testing.TB, change func(*authmodule.Deps)) *process {
	t.Helper()
	p := s.buildWith(t, change)
	if err := p.module.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.module.Stop(contextForCleanup(t)); err != nil {
			t.Error(err)
		}
	})
	return p
}

// gateway does what the real one does with credentials and addresses.
func gateway(m *authmodule.Module) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		ctx := httpx.WithClientInfo(r.Context(), httpx.Client{Addr: addr.Addr(), UserAgent: r.UserAgent()})
		if token, given := httpx.BearerToken(r); given {
			req := auth.ValidateTokenRequest{Token: token}
			if id := r.Header.Get(httpx.HeaderTenant); id != "" {
				req.TenantID = uuid.MustParse(id)
			}
			resp, err := m.Service().ValidateToken(ctx, req)
			if err != nil {
				httpx.WriteError(w, r, err)
				return
			}
			ctx = identity.With(ctx, resp.Principal)
		}
		if key := r.Header.Get("X-API-Key"); key != "" {
			resp, err := m.Service().ValidateAPIKey(ctx, auth.ValidateAPIKeyRequest{Key: key, Client: addr.Addr()})
			if err != nil {
				httpx.WriteError(w, r, err)
				return
			}
			ctx = identity.With(ctx, resp.Principal)
		}
		m.Handler().ServeHTTP(w, r.WithContext(ctx))
	})
}

// in makes a call act in a tenant.
func (c call) in(tenant uuid.UUID) call {
	c.header = maps.Clone(c.header)
	if c.header == nil {
		c.header = map[string]string{}
	}
	c.header[httpx.HeaderTenant] = tenant.String()
	return c
}

// bind gives a user a role in a tenant; nil is the platform.
func (p *process) bind(token string, user, tenant uuid.UUID, role string) answer {
	p.t.Helper()
	c := call{method: "POST", path: "/api/v1/role-bindings", token: token, body: object{"principal_id": user, "role": role, "scope": "platform"}}
	if tenant != uuid.Nil {
		c.body = object{"principal_id": user, "role": role}
		c = c.in(tenant)
	}
	return p.do(c)
}

// call is one request; from defaults to 192.0.2.1.
type call struct {
	method, path, token, from string
	key                       string // an API key, instead of a token
	header                    map[string]string
	body                      any // a string goes as it is
}

// answer is what came back.
type answer struct {
	t      testing.TB
	call   call
	status int
	header http.Header
	body   []byte
}

func (p *process) do(c call) answer {
	p.t.Helper()
	body, isText := c.body.(string)
	if !isText && c.body != nil {
		b, err := json.Marshal(c.body)
		if err != nil {
			p.t.Fatal(err)
		}
		body = string(b)
	}
	r := httptest.NewRequestWithContext(p.t.Context(), c.method, c.path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.1:4711"
	if c.from != "" {
		r.RemoteAddr = c.from + ":4711"
	}
	if c.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.key != "" {
		r.Header.Set("X-API-Key", c.key)
	}
	r.Header.Set("User-Agent", "test")
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	p.http.ServeHTTP(w, r)
	return answer{t: p.t, call: c, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

// want fails the test unless the answer has the status, and the code where one is given.
func (a answer) want(status int, code ...*errs.Error) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s %s: %d %s, want %d", a.call.method, a.call.path, a.status, a.body, status)
	}
	if len(code) > 0 {
		var p errs.Problem
		a.into(&p)
		if p.Code != code[0].Code {
			a.t.Fatalf("%s %s: code %s, want %s: %s", a.call.method, a.call.path, p.Code, code[0].Code, a.body)
		}
	}
	return a
}

func (a answer) into(v any) {
	a.t.Helper()
	dec := json.NewDecoder(bytes.NewReader(a.body))
	if err := dec.Decode(v); err != nil {
		a.t.Fatalf("%s %s: %q: %v", a.call.method, a.call.path, a.body, err)
	}
}

type object = map[string]any

// tokens are what a login gives.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Type    string `json:"token_type"`
	Expires int    `json:"expires_in"`
}

func (p *process) login(username, password string) tokens {
	p.t.Helper()
	var tk tokens
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": username, "password": password}}).want(200).into(&tk)
	return tk
}

const goodPassword = "correct horse battery staple"

// admin logs the first administrator in.
func (p *process) admin() tokens {
	p.t.Helper()
	return p.login("admin", p.initialPassword())
}

func (p *process) initialPassword() string {
	p.t.Helper()
	text, err := os.ReadFile(p.passwordFile())
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

func (p *process) passwordFile() string {
	return filepath.Join(p.site.cfg.DataDir, "initial-admin-password")
}

// addTenant and addUser make objects as the administrator.
func (p *process) addTenant(token, name string) auth.Tenant {
	p.t.Helper()
	var tn auth.Tenant
	p.do(call{method: "POST", path: "/api/v1/tenants", token: token, body: object{"name": name}}).want(201).into(&tn)
	return tn
}

func (p *process) addUser(token, username, role string, tenant *auth.Tenant) auth.User {
	p.t.Helper()
	body := object{"username": username, "password": goodPassword, "role": role}
	if tenant != nil {
		body["tenant_id"] = tenant.ID
	}
	var u auth.User
	p.do(call{method: "POST", path: "/api/v1/users", token: token, body: body}).want(201).into(&u)
	return u
}

// exec and queryText speak to the database past the module.
func (p *process) exec(sql string, args ...any) {
	p.t.Helper()
	p.withConn(func(conn *pgx.Conn) error {
		_, err := conn.Exec(p.t.Context(), sql, args...)
		return err
	})
}

func (p *process) queryText(sql string, args ...any) (text string) {
	p.t.Helper()
	p.withConn(func(conn *pgx.Conn) error { return conn.QueryRow(p.t.Context(), sql, args...).Scan(&text) })
	return text
}

func (p *process) withConn(use func(*pgx.Conn) error) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.site.cfg.DatabaseURL)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := errors.Join(use(conn), conn.Close(contextForCleanup(p.t))); err != nil {
		p.t.Fatal(err)
	}
}

// counter gives the value of one metric, written as name{label="value"}.
func (p *process) counter(metric string) float64 {
	p.t.Helper()
	families, err := p.reg.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "{" + l.GetName() + `="` + l.GetValue() + `"}`
			}
			if name == metric {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
