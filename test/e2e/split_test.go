package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/platform/pki"
)

// process is one server of an installation that runs in several, without a hypervisor.
type process struct {
	t    *testing.T
	dir  string
	file string // its configuration
	cmd  *exec.Cmd
	log  lockedBuffer
}

// lockedBuffer may be read while the process still writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newProcess(t *testing.T, config string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "nova-e2e-") // PostgreSQL's user must be able to pass through
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, dir: dir, file: filepath.Join(dir, "novacron.yaml")}
	p.configure(config)
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("log of the process:\n%s", tail(p.log.String(), 40))
		}
		_ = os.RemoveAll(dir)
	})
	return p
}

func (p *process) configure(config string) {
	p.t.Helper()
	if err := os.WriteFile(p.file, []byte("data_dir: "+p.dir+"\n"+config), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) start() {
	p.t.Helper()
	file, err := binary()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(file, "serve", "--config", p.file)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) stop() {
	if p.cmd == nil || p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	err := p.cmd.Wait()
	if text := p.log.String(); err == nil && text != "" && !strings.Contains(tail(text, 40), `"msg":"module stopped"`) {
		p.t.Errorf("the last lines of the log were not written: %s", tail(text, 40))
	}
}

// client asks one server.
type client struct {
	t     *testing.T
	base  string
	http  *http.Client
	token string
}

func newClient(t *testing.T, base string, secure *tls.Config) *client {
	tr := &http.Transport{TLSClientConfig: secure, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{t: t, base: base, http: &http.Client{Transport: tr, Timeout: patience}}
}

func (c *client) do(method, path, body string) (int, string, *http.Response) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), resp
}

func (c *client) until(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (c *client) login(p *process) {
	c.t.Helper()
	password, err := os.ReadFile(filepath.Join(p.dir, "initial-admin-password"))
	if err != nil {
		c.t.Fatal(err)
	}
	status, text, _ := c.do("POST", "/auth/login", fmt.Sprintf(`{"username":"admin","password":%q}`, strings.TrimSpace(string(password))))
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(text), &tokens); err != nil || status != 200 {
		c.t.Fatalf("login: %d %s", status, text)
	}
	c.token = tokens.AccessToken
}

// The gateway and auth in one process, the scheduler in another with a database of its own: the gateway shows one API, over TLS with a
// certificate it made itself; the scheduler can go and come; a change of the configuration needs no restart.
func TestSchedulerInAnotherProcess(t *testing.T) {
	t.Parallel()
	certs := t.TempDir()
	ca, err := pki.Init(filepath.Join(certs, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []pki.Request{{Name: "gateway"}, {Name: "scheduler", Hosts: []string{"127.0.0.1"}}} {
		if _, _, err := ca.IssueTo(certs, req); err != nil {
			t.Fatal(err)
		}
	}
	inner := func(name string) string {
		return fmt.Sprintf("cert_file: %[1]s/%[2]s.crt, key_file: %[1]s/%[2]s.key, ca_file: %[1]s/ca.crt", certs, name)
	}
	api, far := freeAddress(t), freeAddress(t)
	scheduler := newProcess(t, "modules: [scheduler]\ninternal: {listen: "+far+", "+inner("scheduler")+"}\n")
	front := "modules: [auth, gateway]\nhttp: {listen: " + api + ", tls: {auto: true}}\ninternal: {" + inner("gateway") + "}\n" +
		"gateway:\n  services: [{name: scheduler, urls: [https://" + far + "], retries: 2, circuit_breaker: {failures: 3, open_for: 500ms}}]\n"
	gateway := newProcess(t, front)
	gateway.start()

	c := newClient(t, "https://"+api, nil)
	c.until("the gateway made its certificate", func() bool {
		pool, err := pki.Pool(filepath.Join(gateway.dir, "pki", "ca.crt"))
		if err != nil {
			return false
		}
		c.http.Transport.(*http.Transport).TLSClientConfig = pki.ClientConfig(nil, pool)
		return true
	})
	c.until("the gateway answers", func() bool { status, _, _ := c.do("GET", "/health", ""); return status == 200 })
	c.login(gateway)
	if status, text, _ := c.do("GET", "/api/v1/nodes", ""); status != 503 || !strings.Contains(text, "gateway.upstream_unavailable") {
		t.Errorf("before the scheduler runs: %d %s", status, text)
	}
	if status, text, _ := c.do("GET", "/ready", ""); status != 503 || !strings.Contains(text, `"scheduler":{"ready":false`) {
		t.Errorf("readiness before the scheduler runs: %d %s", status, text)
	}
	scheduler.start()
	c.until("the scheduler is reached", func() bool { status, _, _ := c.do("GET", "/api/v1/nodes", ""); return status == 200 })
	status, text, resp := c.do("GET", "/api/v1/nodes", "")
	if status != 200 || resp.ProtoMajor != 2 || !strings.Contains(text, `"items"`) {
		t.Errorf("nodes over HTTP/%d: %d %s", resp.ProtoMajor, status, text)
	}
	if _, text, _ := c.do("GET", "/api/v1/openapi.json", ""); !strings.Contains(text, `"/api/v1/nodes"`) || !strings.Contains(text, `"/api/v1/users"`) {
		t.Error("the document is not of both processes")
	}
	if status, text, _ := c.do("POST", "/api/v1/scheduler/placements", `{"vcpus":1,"unknown":true}`); status != 422 {
		t.Errorf("a mistake elsewhere: %d %s", status, text)
	}
	c.until("everything is ready", func() bool { status, _, _ := c.do("GET", "/ready", ""); return status == 200 })

	// A client that goes past the gateway gets nowhere, whatever it has.
	past := newClient(t, "https://"+far, c.http.Transport.(*http.Transport).TLSClientConfig.Clone())
	past.http.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true //nolint:gosec // who answers is known
	past.token = c.token
	if status, text, _ := past.do("GET", "/api/v1/nodes", ""); status != 403 || !strings.Contains(text, "internal.not_gateway") {
		t.Errorf("past the gateway: %d %s", status, text)
	}
	if status, _, _ := past.do("GET", "/health", ""); status != 200 {
		t.Errorf("health of the other process: %d", status)
	}
	if _, text, _ := past.do("GET", "/metrics", ""); !strings.Contains(text, "novacron_build_info") {
		t.Error("the other process shows no metrics")
	}

	// Killed without warning, and started again.
	_ = scheduler.cmd.Process.Kill()
	_ = scheduler.cmd.Wait()
	for range 5 {
		if status, text, _ := c.do("GET", "/api/v1/nodes", ""); status != 503 {
			t.Errorf("without the scheduler: %d %s", status, text)
		}
	}
	scheduler.start()
	c.until("the scheduler is reached again", func() bool { status, _, _ := c.do("GET", "/api/v1/nodes", ""); return status == 200 })

	// A new rule holds after SIGHUP; a mistake changes nothing.
	gateway.configure(front + "  routes: [{path: /api/nodes/*, rate_limit: 2/hour}]\n")
	if err := gateway.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	c.until("the new rule holds", func() bool {
		status, _, resp := c.do("GET", "/api/v1/nodes", "")
		return status == 429 && resp.Header.Get("RateLimit-Limit") == "2"
	})
	gateway.configure(front + "  routes: [{path: nodes, rate_limit: many}]\n")
	if err := gateway.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	c.until("the mistake is told", func() bool { return strings.Contains(gateway.log.String(), "the old one stays in force") })
	if status, _, _ := c.do("GET", "/api/v1/nodes", ""); status != 429 {
		t.Errorf("after a configuration with a mistake: %d", status)
	}
}

// Auth in a process of its own: the gateway asks it over gRPC who is there, and sends its routes on to it. What is revoked there is out here at
// once; while it is away nobody is let in, and nobody is told that their token is bad.
func TestAuthInAnotherProcess(t *testing.T) {
	t.Parallel()
	certs := t.TempDir()
	ca, err := pki.Init(filepath.Join(certs, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []pki.Request{{Name: "gateway"}, {Name: "auth", Hosts: []string{"127.0.0.1"}}} {
		if _, _, err := ca.IssueTo(certs, req); err != nil {
			t.Fatal(err)
		}
	}
	inner := func(name string) string {
		return fmt.Sprintf("cert_file: %[1]s/%[2]s.crt, key_file: %[1]s/%[2]s.key, ca_file: %[1]s/ca.crt", certs, name)
	}
	api, rest, rpc := freeAddress(t), freeAddress(t), freeAddress(t)
	identity := newProcess(t, "modules: [auth]\ninternal: {listen: "+rest+", grpc_listen: "+rpc+", "+inner("auth")+"}\n")
	gateway := newProcess(t, "modules: [scheduler, gateway]\nhttp: {listen: "+api+"}\n"+
		"internal: {"+inner("gateway")+", remotes: [{module: auth, address: "+rpc+"}]}\n"+
		"gateway:\n  services: [{name: auth, urls: [https://"+rest+"]}]\n")
	identity.start()
	gateway.start()
	c := newClient(t, "http://"+api, nil)
	c.until("everything is ready", func() bool { status, _, _ := c.do("GET", "/ready", ""); return status == 200 })
	c.until("the gateway knows auth's routes", func() bool { status, _, _ := c.do("POST", "/auth/login", `{}`); return status == 422 })
	c.login(identity)
	if status, text, _ := c.do("GET", "/api/v1/nodes", ""); status != 200 {
		t.Errorf("a route of this process: %d %s", status, text)
	}
	if status, text, _ := c.do("GET", "/api/v1/me", ""); status != 200 || !strings.Contains(text, `"admin"`) {
		t.Errorf("a route of auth's: %d %s", status, text)
	}
	second := *c
	second.login(identity)
	if status, text, _ := second.do("POST", "/auth/logout", ""); status != 204 {
		t.Errorf("logout: %d %s", status, text)
	}
	if status, text, _ := second.do("GET", "/api/v1/nodes", ""); status != 401 || !strings.Contains(text, "auth.session_revoked") {
		t.Errorf("after logout: %d %s", status, text)
	}
	if status, _, _ := c.do("GET", "/api/v1/nodes", ""); status != 200 {
		t.Errorf("another session: %d", status)
	}
	_ = identity.cmd.Process.Kill()
	_ = identity.cmd.Wait()
	if status, text, _ := c.do("GET", "/api/v1/nodes", ""); status != 503 || !strings.Contains(text, "auth.unavailable") {
		t.Errorf("without auth: %d %s", status, text)
	}
	if status, _, _ := c.do("GET", "/health", ""); status != 200 {
		t.Errorf("health without auth: %d", status)
	}
	identity.start()
	c.until("auth is back", func() bool { status, _, _ := c.do("GET", "/api/v1/nodes", ""); return status == 200 })
}
