package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pki"
)

const lightPath = "/api/v1/monitoring/health"

// generous is a configuration whose limits are counted, but never reached.
const generous = "  rate_limit: {user: 1000000/second, tenant: 1000000/second, address: 1000000/second}\n" +
	"  routes: [{path: /api/monitoring/*, rate_limit: 1000000/second%s}]\n"

// TestBenchGateway measures what a request costs the gateway: one that it answers itself, one that it proxies, one that it has kept; beside
// a bare chi handler, and beside nginx and Caddy in front of the same module over the same mutual TLS. Every server writes an access log.
// CPU time is that of the server's process alone, so other work on the machine changes the latencies and hardly the costs.
// NOVACRON_TEST_BENCH_SECONDS is how long each is measured.
func TestBenchGateway(t *testing.T) {
	if os.Getenv("NOVACRON_TEST_BENCH") == "" {
		t.Skip("set NOVACRON_TEST_BENCH=1, or run 'make bench'")
	}
	b := newGatewayBench(t)
	const conns = 32
	measure := func(what string, l load) measured {
		l.path, l.conns, l.during = lightPath, conns, b.during
		m := l.run(t)
		fmt.Printf("%-34s %v\n", what, m)
		return m
	}
	measure("bare chi handler", load{addr: b.chi.addr, pid: b.chi.pid})
	local := measure("gateway, local, JWT and limits", load{addr: b.local.addr, pid: b.local.pid, header: b.local.bearer})
	b.cacheLocal(true)
	measure("gateway, kept answer", load{addr: b.local.addr, pid: b.local.pid, header: b.local.bearer})
	b.cacheLocal(false)
	proxied := measure("gateway, proxied over mutual TLS", load{addr: b.proxy.addr, pid: b.proxy.pid, header: b.proxy.bearer})
	measure("gateway, proxied over HTTP/2", load{addr: b.proxy2.addr, pid: b.proxy2.pid, header: b.proxy2.bearer})
	if b.caddy.pid != 0 {
		caddy := measure("Caddy, proxied over mutual TLS", load{addr: b.caddy.addr, pid: b.caddy.pid, header: b.caller()})
		fmt.Printf("proxied requests per CPU-second, gateway to Caddy: %.2f (target: at least 1)\n", proxied.perCPU()/caddy.perCPU())
	}
	if b.nginx.pid != 0 {
		measure("nginx, proxied over mutual TLS", load{addr: b.nginx.addr, pid: b.nginx.pid, header: b.caller()})
	}
	fmt.Printf("local path with JWT and limits: %.1f µs of CPU (target: below 50)\n", 1e6/local.perCPU())

	const many, rate = 10_000, 2000
	before := residentOf(t, b.local.pid)
	m := load{addr: b.local.addr, pid: b.local.pid, header: b.local.bearer, path: lightPath, conns: many, rate: rate, during: 3 * b.during}.run(t)
	fmt.Printf("%d connections, %d requests/s:  %v\n", many, rate, m)
	fmt.Printf("resident memory for each of them:  %.1f KiB (of the process: %d MiB before, %d MiB then)\n",
		float64(m.residentBytes-before)/many/1024, before>>20, m.residentBytes>>20)
}

// benched is a server that is measured.
type benched struct {
	addr   string
	pid    int
	bearer string // header line with a token
}

type gatewayBench struct {
	t      *testing.T
	dir    string
	certs  string
	during time.Duration
	far    string // where the module listens that proxies reach

	chi, local, caddy, nginx benched
	proxy, proxy2            benched // over HTTP/1.1 and over HTTP/2
	front                    *process
	frontConfig              string
	client                   *client
}

func newGatewayBench(t *testing.T) *gatewayBench {
	t.Helper()
	b := &gatewayBench{t: t, dir: t.TempDir(), certs: t.TempDir(), during: 5 * time.Second, far: freeAddress(t)}
	if s := os.Getenv("NOVACRON_TEST_BENCH_SECONDS"); s != "" {
		d, err := time.ParseDuration(s + "s")
		if err != nil {
			t.Fatal(err)
		}
		b.during = d
	}
	ca, err := pki.Init(filepath.Join(b.certs, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []pki.Request{{Name: "gateway"}, {Name: "monitoring", Hosts: []string{"127.0.0.1", "monitoring.test"}}} {
		if _, _, err := ca.IssueTo(b.certs, req); err != nil {
			t.Fatal(err)
		}
	}
	inner := func(name string) string {
		return fmt.Sprintf("cert_file: %[1]s/%[2]s.crt, key_file: %[1]s/%[2]s.key, ca_file: %[1]s/ca.crt", b.certs, name)
	}
	b.local.addr, b.proxy.addr, b.proxy2.addr = freeAddress(t), freeAddress(t), freeAddress(t)
	b.frontConfig = "modules: [auth, monitoring, gateway]\nhttp: {listen: " + b.local.addr + "}\ngateway:\n" + generous
	b.front = newProcess(t, fmt.Sprintf(b.frontConfig, ""))
	module := newProcess(t, "modules: [monitoring]\ninternal: {listen: "+b.far+", "+inner("monitoring")+"}\n")
	proxying := func(at benched, http2 string) *process {
		return newProcess(t, "modules: [auth, gateway]\nhttp: {listen: "+at.addr+"}\ninternal: {"+inner("gateway")+"}\n"+
			fmt.Sprintf("gateway:\n  services: [{name: monitoring, urls: [https://"+b.far+"], http2: "+http2+"}]\n"+generous, ""))
	}
	proxy, proxy2 := proxying(b.proxy, "off"), proxying(b.proxy2, "auto")
	binaryFile, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{b.front, module, proxy, proxy2} {
		p.cmd = exec.Command(binaryFile, "serve", "--config", p.file)
		b.spawn(p.cmd, filepath.Join(p.dir, "log"))
	}
	for _, one := range []struct {
		at *benched
		p  *process
	}{{&b.local, b.front}, {&b.proxy, proxy}, {&b.proxy2, proxy2}} {
		c := newClient(t, "http://"+one.at.addr, nil)
		c.until("the gateway is ready", func() bool { status, _, _ := c.do("GET", "/ready", ""); return status == 200 })
		c.login(one.p)
		c.until("the module is reached", func() bool { status, _, _ := c.do("GET", lightPath, ""); return status == 200 })
		one.at.pid, one.at.bearer = one.p.cmd.Process.Pid, "Authorization: Bearer "+c.token+"\r\n"
		if one.at == &b.local {
			b.client = c
		}
	}
	b.startChi()
	b.startNginx()
	b.startCaddy()
	return b
}

// spawn starts a process that writes to a file, which costs it what it would cost in service, and ends it with the test.
func (b *gatewayBench) spawn(cmd *exec.Cmd, logFile string) {
	b.t.Helper()
	out, err := os.Create(logFile)
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
}

// other starts a server that is none of ours and waits until it listens.
func (b *gatewayBench) other(name, addr string, cmd *exec.Cmd) benched {
	b.t.Helper()
	logFile := filepath.Join(b.dir, name+".log")
	b.spawn(cmd, logFile)
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return benched{addr: addr, pid: cmd.Process.Pid}
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(logFile)
			b.t.Fatalf("%s does not listen: %v\n%s", name, err, text)
		}
	}
}

// cacheLocal has the local gateway keep answers, or not.
func (b *gatewayBench) cacheLocal(kept bool) {
	b.t.Helper()
	more := ""
	if kept {
		more = ", cache_ttl: 1h"
	}
	b.front.configure(fmt.Sprintf(b.frontConfig, more))
	if err := b.front.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		b.t.Fatal(err)
	}
	b.client.until("the new rule holds", func() bool {
		_, _, resp := b.client.do("GET", lightPath, "")
		return resp != nil && (resp.Header.Get("X-Cache") == "hit") == kept
	})
}

// caller is the header that only a holder of the gateway's key can make, as nginx and Caddy do not make it themselves.
func (b *gatewayBench) caller() string {
	b.t.Helper()
	pair, err := pki.LoadPair(filepath.Join(b.certs, "gateway.crt"), filepath.Join(b.certs, "gateway.key"))
	if err != nil {
		b.t.Fatal(err)
	}
	token, err := hop.NewSigner(pair.Certificate).Sign("monitoring", identity.Principal{UserID: uuid.New(), TenantID: uuid.New(),
		Permissions: []string{"monitoring:read"}}, true)
	if err != nil {
		b.t.Fatal(err)
	}
	return hop.HeaderCaller + ": " + token + "\r\n"
}

// chiEnv names the address for TestServeBareChi.
const chiEnv = "NOVACRON_TEST_BENCH_CHI"

// TestServeBareChi is no test: TestBenchGateway runs it in a process of its own, as the least that a Go server can do.
func TestServeBareChi(t *testing.T) {
	addr := os.Getenv(chiEnv)
	if addr == "" {
		t.Skip("a helper of TestBenchGateway")
	}
	r := chi.NewRouter()
	r.Get(lightPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"healthy","at":"2026-01-01T00:00:00Z","nodes":[]}`))
	})
	t.Fatal((&http.Server{Addr: addr, Handler: r, ReadHeaderTimeout: patience}).ListenAndServe())
}

func (b *gatewayBench) startChi() {
	b.t.Helper()
	addr := freeAddress(b.t)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestServeBareChi$", "-test.timeout", "0") //nolint:gosec // this program itself
	cmd.Env = append(os.Environ(), chiEnv+"="+addr)
	b.chi = b.other("chi", addr, cmd)
}

func (b *gatewayBench) startNginx() {
	b.t.Helper()
	file, err := exec.LookPath("nginx")
	if err != nil {
		fmt.Println("nginx is not installed, so it is left out")
		return
	}
	addr, conf := freeAddress(b.t), filepath.Join(b.dir, "nginx.conf")
	b.write(conf, strings.NewReplacer("DIR", b.dir, "CERTS", b.certs, "ADDR", addr, "FAR", b.far).Replace(`
daemon off; master_process off; pid DIR/nginx.pid; error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log DIR/nginx-access.log;
  client_body_temp_path DIR/n1; proxy_temp_path DIR/n2; fastcgi_temp_path DIR/n3; uwsgi_temp_path DIR/n4; scgi_temp_path DIR/n5;
  upstream module { server FAR; keepalive 256; keepalive_requests 100000000; }
  server {
    listen ADDR; keepalive_requests 100000000;
    location / {
      proxy_pass https://module; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_ssl_certificate CERTS/gateway.crt; proxy_ssl_certificate_key CERTS/gateway.key;
      proxy_ssl_trusted_certificate CERTS/ca.crt; proxy_ssl_verify on; proxy_ssl_name monitoring.test; proxy_ssl_protocols TLSv1.3;
    }
  }
}
`))
	b.nginx = b.other("nginx", addr, exec.Command(file, "-c", conf, "-p", b.dir))
}

func (b *gatewayBench) startCaddy() {
	b.t.Helper()
	file, err := exec.LookPath("caddy")
	if err != nil {
		fmt.Println("Caddy is not installed, so it is left out")
		return
	}
	addr, conf := freeAddress(b.t), filepath.Join(b.dir, "Caddyfile")
	b.write(conf, strings.NewReplacer("DIR", b.dir, "CERTS", b.certs, "ADDR", addr, "FAR", b.far).Replace(`{
	admin off
	auto_https off
}
http://ADDR {
	log {
		output file DIR/caddy-access.log
	}
	reverse_proxy https://FAR {
		transport http {
			versions 1.1
			keepalive_idle_conns_per_host 256
			tls_client_auth CERTS/gateway.crt CERTS/gateway.key
			tls_trusted_ca_certs CERTS/ca.crt
		}
	}
}
`))
	cmd := exec.Command(file, "run", "--adapter", "caddyfile", "--config", conf)
	cmd.Env = append(os.Environ(), "HOME="+b.dir, "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
	b.caddy = b.other("caddy", addr, cmd)
}

func (b *gatewayBench) write(file, text string) {
	b.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}
